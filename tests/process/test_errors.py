"""Bad input and a bad environment lead to one clear line, and never to a traceback."""

import asyncio
import json
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from proto.host import Identity
from tests.fakes import commands
from tests.fakes.figures import within
from tests.fakes.service import kubelet, service, short_folder, until

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}


def command(*arguments: str) -> tuple[int, str, str]:
    """Run the command to its end and return its exit code, stdout and stderr."""
    done = commands.run(*arguments)
    return done.returncode, done.stdout, done.stderr


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("arguments", "content", "named"),
    [
        (["run", "--no-such-flag"], "", "--no-such-flag"),
        (["launch"], "", "launch"),
        (["run", "--config-file=FILE"], "helth: {}", "helth"),
        (
            ["run", "--config-file=FILE"],
            "flags: {failOnInitError: 7}",
            "flags.failOnInitError: Expected",
        ),
        (
            ["run", "--config-file=FILE"],
            "health: {staleAfter: soon}",
            'health.staleAfter: "soon" is not',
        ),
        (["run", "--config-file=FILE"], "flags: [", "line 1"),
        (["run", "--config-file=FILE.none"], "", "No such file"),
        (["run", "--config-file=/"], "", "directory"),
        (["run", "--simulated-node=FILE"], "gpus: 3", "gpus: Expected"),
        (
            ["run", "--simulated-node=FILE"],
            json.dumps({"gpus": [{"uuid": f"GPU-{'1' * 8}-1111-1111-1111-{'1' * 12}"}] * 2}),
            f"GPU-{'1' * 8}-1111-1111-1111-{'1' * 12}",
        ),
        (["run", f"--runtime-dir=/tmp/{'x' * 108}"], "", "--runtime-dir"),
        (["run", f"--device-plugin-path=/tmp/{'x' * 100}"], "", "--device-plugin-path"),
        (["run", "--resource-config=gpu:a"], "", "gpu:a"),
        (["run", "--metrics-address=nowhere"], "", "nowhere"),
        (["run", "--log-level=loud"], "", "loud"),
        (["drill", "xid", "seventy", "--gpu", "0"], "", "seventy"),
    ],
)
def test_bad_input_is_one_clear_line(
    folder: Path, arguments: list[str], content: str, named: str
) -> None:
    """Bad input is refused with exit code 2 and one line that names it."""
    path = write(folder, "file", content)
    code, out, err = command(*(argument.replace("FILE", str(path)) for argument in arguments))

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("cannot ")
    assert named in err


def test_simulate_refuses_bad_input_as_run_does() -> None:
    """`simulate` refuses the same bad flags as `run`: one line and exit code 2."""
    code, _, err = command("simulate", "--no-such-flag")

    assert (code, err.count("\n"), "--no-such-flag" in err) == (2, 1, True)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["drill", "lost", "--gpu", "0", "--runtime-dir=FOLDER/none"], "FOLDER/none"),
        (["run", "--runtime-dir=FOLDER/file"], "FOLDER/file"),
    ],
)
def test_a_failed_command_is_one_clear_line(folder: Path, arguments: list[str], named: str) -> None:
    """A command that cannot reach or find something fails with exit code 1 and one line that names
    it.
    """
    write(folder, "file", "")
    code, out, err = command(*(argument.replace("FOLDER", str(folder)) for argument in arguments))

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("cannot ")
    assert named.replace("FOLDER", str(folder)) in err


def test_drills_on_missing_devices_are_refused(folder: Path) -> None:
    """A drill on a GPU or MIG instance that the node does not have is refused."""

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE):
            await node.until(lambda k: k.healthy(GPU) == 2)
            base = ("drill", "xid", "79", f"--runtime-dir={folder}")
            unknown = await asyncio.to_thread(command, *base, "--gpu=2")
            instance = await asyncio.to_thread(command, *base, "--gpu=0", "--mig=0")

            assert unknown == (1, "", "cannot find GPU 2: the simulated node has 2 GPUs\n")
            assert instance == (1, "", "cannot find MIG instance 0 on GPU 0: it has 0 instances\n")
            assert node.healthy(GPU) == 2

    asyncio.run(story())


def test_a_second_service_is_refused(folder: Path) -> None:
    """A second service with the same runtime folder is refused and exits with code 1."""

    async def story() -> None:
        async with service(folder, node=NODE) as running:
            await running.logged("watching GPUs for Xid events")
            code, _, err = await asyncio.to_thread(command, "run", f"--runtime-dir={folder}")

            assert code == 1
            busy = "another gpu-sharing-plugin uses it; stop the other service or pod first"
            assert err == f'cannot use the runtime folder "{folder}": {busy}\n'

    asyncio.run(story())


def test_a_missing_plugin_folder_is_waited_for(folder: Path) -> None:
    """When the kubelet's folder is missing, this is logged once, and the GPUs are served when the
    folder appears.
    """

    async def story() -> None:
        async with service(folder, node=NODE) as running:
            reason = (
                f'cannot listen on "{folder}/kubelet/nvidia-gpu.sock": No such file or directory'
            )
            await running.logged("cannot register with the kubelet, retrying", error=reason)
            async with kubelet(folder) as node:
                await node.until(lambda k: k.healthy(GPU) == 2)

            assert [entry.get("error") for entry in running.entries].count(reason) == 1

    asyncio.run(story())


def test_a_new_plugin_folder_is_noticed(folder: Path) -> None:
    """When the kubelet's folder is deleted and created again, everything is registered again."""

    async def story() -> None:
        async with service(folder, node=NODE) as running:
            async with kubelet(folder) as node:
                await node.until(lambda k: k.healthy(GPU) == 2)
            shutil.rmtree((folder / "kubelet").rename(folder / "before"))
            async with kubelet(folder) as node:
                await node.until(lambda k: k.healthy(GPU) == 2)
                await running.ready()

    asyncio.run(story())


def test_a_plain_file_on_our_path_is_replaced(folder: Path) -> None:
    """When a plain file replaces a worker's socket, the worker creates a new socket and registers
    again.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            (folder / "file").write_text("not a socket")
            (folder / "file").replace(folder / "kubelet/nvidia-gpu.sock")
            await node.until(lambda k: k.registrations == 2 and k.healthy(GPU) == 2)
            await running.ready()

    asyncio.run(story())


def test_another_plugin_on_our_path_is_left_alone(folder: Path) -> None:
    """When another process serves on the socket's path, the worker leaves it alone and logs the
    reason.
    """

    async def story() -> None:
        other = folder / "other"
        other.mkdir()
        async with kubelet(folder) as node, service(folder, node=NODE):
            await node.until(lambda k: k.healthy(GPU) == 2)
            options = ("--metrics-address=127.0.0.1:0", f"--device-plugin-path={folder}/kubelet")
            async with service(other, *options, node=NODE) as second:
                told = await second.logged("cannot register with the kubelet, retrying")

                assert "another process serves this socket" in told["error"]
                assert node.registrations == 1

    asyncio.run(story())


def test_a_process_that_takes_our_path_is_left_alone(folder: Path) -> None:
    """When another process takes over a worker's path, the worker waits until that process ends,
    and registers again.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            path = folder / "kubelet/nvidia-gpu.sock"
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(f"{folder}/other")
                end.listen(8)
                (folder / "other").replace(path)  # in one step: the worker watches it
                theirs = Identity.of(str(path))
                entry = await running.logged("cannot register with the kubelet, retrying")
                assert "another process serves this socket" in entry["error"]
                assert Identity.of(str(path)) == theirs
            await node.until(lambda k: k.registrations == 2 and k.healthy(GPU) == 2)

    asyncio.run(story())


def test_gpus_are_served_while_the_port_is_taken(folder: Path) -> None:
    """When its port is taken, the exporter is not ready and says why; GPUs are served."""

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await running.ready()
            port = running.url().rpartition(":")[2]
            other = folder / "other"
            other.mkdir()
            options = f"--metrics-address=127.0.0.1:{port}"
            async with kubelet(other) as second_node, service(other, options, node=NODE) as second:
                told = await second.logged("process is not ready", child="exporter")
                await second_node.until(lambda k: k.healthy(GPU) == 2)

                assert told["reason"] == (
                    f'cannot listen on "127.0.0.1:{port}" for HTTP: Address already in use; '
                    "free the port, or set another --metrics-address"
                )
                assert node.healthy(GPU) == 2

    asyncio.run(story())


LIVE_NODE = {"simulated-node.json", "simulated-node.lock"}
"""The simulated hardware: it stays when the service ends."""


def names(folder: Path) -> set[str]:
    """Return the names of the files in a folder."""
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("hung", [False, True])
def test_a_stop_leaves_nothing(*, hung: bool) -> None:
    """SIGTERM ends the service with code 0 within 5 s, even if a child hangs. No socket is left."""

    async def story(folder: Path) -> float:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            if hung:
                running.kill(f"worker {GPU}", signal.SIGSTOP)
            begun = time.monotonic()
            code = await running.stop()
            took = time.monotonic() - begun
            await until(lambda: node.healthy(GPU) == 0, "end of the stream")
            left, ours = names(folder / "kubelet"), names(folder)

            assert (code, left) == (0, {"kubelet.sock"})
            assert ours - {"pod-resources.sock"} == {
                "kubelet",
                "lock",
                "logs",
                "node.json",
                "procfs",
                "state",
                "sysfs",
                *LIVE_NODE,
            }
            return took * 1000

    def once() -> float:
        with short_folder() as folder:
            return asyncio.run(story(folder))

    within(5000, "stop with a hung child" if hung else "stop", once)
