"""What other users of the node can and cannot do, also when they prepared the service's folders."""

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import commands
from tests.fakes.service import PATIENCE, kubelet, service

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")

ATTACK = """
import os, socket, sys
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for path in sys.argv[1:]:
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as end:
            try:
                end.connect(path)
                print(path, "connected")
            except OSError as error:
                print(path, error.strerror)
    try:
        open(path, "rb").close()
        print(path, "opened")
    except OSError as error:
        print(path, error.strerror)
"""


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def open_to_all(*folders: Path) -> None:
    """Let everybody read the folders and pass through them."""
    for path in folders:
        path.chmod(0o755)


def sockets(folder: Path) -> list[Path]:
    """Return the sockets of the service in a folder."""
    found = [path for path in folder.rglob("*") if path.is_socket()]
    return [path for path in found if path.name not in {"kubelet.sock", "pod-resources.sock"}]


def attacked(*paths: Path) -> set[str]:
    """Return the errors of another user's attempts to connect to these *paths* and to open them."""
    done = subprocess.run(
        # The script itself changes its user: for subprocess's user= Python would have to fork, and
        # gRPC, which the stand-in kubelet uses, may crash in a fork.
        [sys.executable, "-c", ATTACK, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 * len(paths)
    return {line.partition(" ")[2] for line in lines}


@root_only
def test_another_user_reaches_nothing(folder: Path) -> None:
    """No other user can connect to a socket of the service, even if its folders are open to all and
    the service was started with umask 0.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            # Open the folders, so that only the sockets' own modes protect them.
            open_to_all(folder, folder / "kubelet")
            ours = sockets(folder)

            assert {path.name for path in ours} == {
                "control.sock",
                "exporter.sock",
                "health.ipc",
                "nvidia-gpu.sock",
                "telemetry.ipc",
            }
            assert {path: mode(path) & 0o077 for path in ours} == dict.fromkeys(ours, 0)
            assert await asyncio.to_thread(attacked, *ours) == {"Permission denied"}

    before = os.umask(0)
    try:
        asyncio.run(story())
    finally:
        os.umask(before)


@root_only
def test_another_user_reads_nothing_of_ours(folder: Path) -> None:
    """No other user can read the service's files, even if it was started with umask 0."""

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            running.node.xid(0, 79)
            await node.until(lambda k: k.healthy(GPU) == 1)
            open_to_all(folder)
            files = [folder / name for name in ("lock", "exporter.url")]

            assert await asyncio.to_thread(attacked, *files) == {"Permission denied"}
            assert mode(folder / "state") == 0o700

    before = os.umask(0)
    try:
        asyncio.run(story())
    finally:
        os.umask(before)


def run(*arguments: str) -> tuple[int, str]:
    """Run the command to its end and return its exit code and stderr."""
    done = commands.run("run", *arguments)
    return done.returncode, done.stderr


def test_a_runtime_folder_that_others_write_into_is_refused(folder: Path) -> None:
    """A runtime folder that others can write to is refused in one line, and no link in it is
    followed.
    """
    runtime, target = folder / "runtime", folder / "target"
    runtime.mkdir()
    target.write_text("precious")
    (runtime / "lock").symlink_to(target)
    runtime.chmod(0o777)

    code, said = run(f"--runtime-dir={runtime}")

    assert (code, said.count("\n")) == (1, 1)
    assert said.startswith(
        f'cannot use the runtime folder "{runtime}": other users can write to it'
    )
    assert target.read_text() == "precious"


def test_an_open_runtime_folder_is_made_private(folder: Path) -> None:
    """An empty runtime folder that all can write to (an emptyDir) is made private and used."""

    async def story() -> None:
        runtime = folder / "runtime"
        runtime.mkdir()
        runtime.chmod(0o777)
        async with kubelet(folder) as node, service(folder, f"--runtime-dir={runtime}", node=NODE):
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert mode(runtime) == 0o700

    asyncio.run(story())


def test_no_secret_is_logged(folder: Path) -> None:
    """The environment, where platforms put secrets, is in no log line and no page, even at level
    debug.
    """

    async def story() -> None:
        secret = {"AWS_SECRET_ACCESS_KEY": "hunter2-in-the-environment"}
        options = ("--log-level=debug",)
        async with (
            kubelet(folder) as node,
            service(folder, *options, node=NODE, environment=secret) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            running.kill(f"worker {GPU}")
            await node.until(lambda k: k.registrations == 2)
            pages = [(await running.get(path))[1] for path in ("/metrics", "/status", "/", "/x")]
            await running.stop()

            assert "hunter2" not in str(running.entries)
            assert "hunter2" not in "".join(pages)

    asyncio.run(story())


def test_a_configuration_that_is_no_regular_file_is_refused(folder: Path) -> None:
    """A configuration path that is a device or a pipe is refused at once, because reading could
    never end.
    """
    os.mkfifo(folder / "pipe")
    for path in ("/dev/zero", str(folder / "pipe")):
        code, said = run(f"--config-file={path}", f"--runtime-dir={folder}")

        assert (code, said) == (
            2,
            f'cannot use the configuration file "{path}": it is not a regular file\n',
        )
