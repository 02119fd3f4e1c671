"""The status of a running service, with the command `status` and over HTTP."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.fakes import commands, showcase
from tests.fakes.exporter import Answer, busy, exporter
from tests.fakes.service import Service, kubelet, service, until

GPU = "nvidia.com/gpu"
UUIDS = [f"GPU-{n}0000000-0000-0000-0000-000000000000" for n in (1, 2)]
NODE: dict[str, object] = {"gpus": [{"uuid": uuid} for uuid in UUIDS]}


async def ask(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run `status` and return its exit code, stdout and stderr."""
    words = ("status", f"--runtime-dir={folder}", *arguments)
    done = await asyncio.to_thread(commands.run, *words, environment=environment)
    return done.returncode, done.stdout, done.stderr


async def shows(running: Service, healthy: list[bool]) -> None:
    """Wait until /status shows this health of the GPUs."""

    async def told() -> bool:
        code, body = await running.get("/status")
        gpus = json.loads(body)["gpus"] if code == 200 else None
        return [gpu["healthy"] for gpu in gpus or ()] == healthy

    await until(told, f"GPUs that are {healthy}")


def test_an_xid_is_shown_with_advice(folder: Path) -> None:
    """After an Xid, `status` shows the GPU, the reason and the advice, and fails if --exit-code is
    given.
    """

    async def scenario() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            await shows(running, [True, True])
            well = await ask(folder, "--exit-code")
            running.node.xid(1, 79)
            await node.until(lambda k: k.healthy(GPU) == 1)
            await shows(running, [True, False])
            broken = await ask(folder)
            judged = await ask(folder, "--exit-code")
            as_json = await ask(folder, "--json", "--exit-code")
            page = await running.get("/")

        assert (well[0], well[2]) == (0, "")
        assert "All 2 GPUs are healthy" in well[1]
        assert (broken[0], broken[2]) == (0, "")
        assert "GPU 1: fatal Xid: 79, GPU has fallen off the bus" in broken[1]
        assert broken[1].count("Drain the node and reboot it.") == 1
        assert all(uuid in broken[1] for uuid in UUIDS)
        assert judged[0] == 1
        assert as_json[0] == 1
        told = json.loads(as_json[1])
        assert [gpu["healthy"] for gpu in told["gpus"]] == [True, False]
        assert [(xid["uuid"], xid["xid"]) for xid in told["xids"]] == [(UUIDS[1], 79)]
        assert page[0] == 200
        assert "Drain the node and reboot it." in page[1]

    asyncio.run(scenario())


def test_a_silent_monitor(folder: Path) -> None:
    """When the monitor hangs, the status shows no GPU as healthy; the reason is monitor-silent."""

    async def scenario() -> None:
        (folder / "config.yaml").write_text("health: {staleAfter: 3s, pollInterval: 1s}")
        options = (f"--config-file={folder}/config.yaml",)
        async with kubelet(folder) as node, service(folder, *options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await shows(running, [True, True])
            running.kill("monitor", signal.SIGSTOP)
            await shows(running, [False, False])
            (_, body) = await running.get("/status")

        gpus = json.loads(body)["gpus"]
        assert [gpu["state"] for gpu in gpus] == [None, None]
        assert {reason["kind"] for gpu in gpus for reason in gpu["reasons"]} == {"monitor-silent"}

    asyncio.run(scenario())


def test_maintenance(folder: Path) -> None:
    """During maintenance, `status` says so and names the command that ends it."""

    async def scenario() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await shows(running, [True, True])
            await asyncio.to_thread(requests, folder, "quiesce")
            await shows(running, [False, False])
            code, out, _ = await ask(folder, "--exit-code")
            await asyncio.to_thread(requests, folder, "resume")
            await shows(running, [True, True])

        assert code == 1
        assert "Under maintenance" in out
        advice = "Run gpu-sharing-plugin resume when the maintenance is done."
        assert f"GPU 0, 1: under maintenance. {advice}" in out

    asyncio.run(scenario())


def requests(folder: Path, command: str) -> None:
    """Send a request to the service with a command."""
    commands.run(command, f"--runtime-dir={folder}").check_returncode()


def leave_url(folder: Path, url: str) -> None:
    """Write the file in which `status` finds the service's URL."""
    (folder / "exporter.url").write_text(url)


def test_a_busy_node_without_a_terminal(folder: Path) -> None:
    """Without a terminal, `status` prints whole names and no colours, whatever COLUMNS says."""
    with exporter(busy) as url:
        leave_url(folder, url)
        environment = {"COLUMNS": "40", "PYTHONIOENCODING": "utf-8"}
        code, out, err = asyncio.run(ask(folder, **environment))

    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert all(uuid in out for uuid in showcase.UUIDS)
    lines = [line.split() for line in out.splitlines()]
    assert [*lines[lines.index([]) + 1]][:3] == ["GPU", "UUID", "state"]
    holder = "platform/vision-serving-6c9f7d5b8-x2lqk/main"
    row = next(line for line in out.splitlines() if line.startswith("2 "))
    assert all(part in row for part in ("lost", "14 min", "1 of 4", holder))
    assert "GPU 2: the driver lost the GPU; fatal Xid: 79, " in out
    assert "GPU 7:1: fatal Xid: 95, uncontained memory error." in out


def test_an_encoding_without_the_symbols(folder: Path) -> None:
    """Characters that the terminal's encoding lacks are replaced; the rest is printed."""
    with exporter(busy) as url:
        leave_url(folder, url)
        code, out, err = asyncio.run(ask(folder, PYTHONIOENCODING="ascii"))

    assert (code, err) == (0, "")
    assert "? healthy" in out


def test_a_reader_that_is_gone(folder: Path) -> None:
    """`status | head` ends with SIGPIPE, as other commands do, and prints nothing on stderr."""
    read, write = os.pipe()
    os.close(read)
    with exporter(busy) as url, os.fdopen(write, "wb") as nobody:
        leave_url(folder, url)
        for form in ((), ("--json",)):
            words = ("status", f"--runtime-dir={folder}", *form)
            done = commands.run(*words, stdout=nobody.fileno())
            assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_control_characters_in_a_name(folder: Path) -> None:
    """Characters that command a terminal are escaped, and brackets are printed as they are; JSON
    has the same value as the service's answer.
    """
    body = hostile()
    with exporter(lambda _: (200, body, ())) as url:
        leave_url(folder, url)
        code, out, err = asyncio.run(ask(folder))
        found = asyncio.run(ask(folder, "--json"))

    assert (code, err) == (0, "")
    assert r"[red]\x1b[31m\n\x9b31m\u202e]" in out
    assert all(line.isprintable() for line in out.split("\n"))
    assert (found[0], found[2]) == (0, "")
    assert all(line.isprintable() for line in found[1].split("\n"))
    assert json.loads(found[1]) == json.loads(body)


def hostile() -> bytes:
    """Return the status of a busy node whose first GPU is held by a pod with a dangerous name."""
    answer = json.loads(busy("/status")[1])
    answer["gpus"][0]["holders"][0]["pod"] = "[red]\x1b[31m\n\x9b31m\u202e]"
    return json.dumps(answer, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ((404, b"{}", ()), "cannot get URL/status: HTTP status 404"),
        ((200, b"", ()), "cannot read the service's answer: Input data was truncated"),
        ((200, b"<html>", ()), "cannot read the service's answer: JSON is malformed"),
        ((200, b"{}", ()), "cannot read the service's answer: Object missing required field"),
    ],
    ids=["not there", "empty", "HTML", "another version"],
)
def test_answers_that_cannot_be_read(folder: Path, answer: Answer, problem: str) -> None:
    """An answer that cannot be read leads to exit code 1 and one line on stderr that says why."""
    with exporter(lambda _: answer) as url:
        leave_url(folder, url)
        for form in ((), ("--json",)):
            code, out, err = asyncio.run(ask(folder, *form))
            assert (code, out) == (1, "")
            assert err.startswith(problem.replace("URL", url))
            assert err.count("\n") == 1


def test_no_service(folder: Path) -> None:
    """When the service does not run or its URL is wrong, one line says so, with exit code 1."""
    missing = asyncio.run(ask(folder))
    with exporter(busy) as url:
        leave_url(folder, url)
    gone = asyncio.run(ask(folder))
    leave_url(folder, "nonsense")
    nonsense = asyncio.run(ask(folder))

    line = (
        f'cannot find the service in "{folder}"; check that it is running with this --runtime-dir\n'
    )
    assert missing == (1, "", line)
    assert gone[:2] == (1, "")
    assert gone[2].startswith(f"cannot reach {url}/status: ")
    assert gone[2].endswith("Connection refused; is the service running?\n")
    assert nonsense[:2] == (1, "")
    assert nonsense[2].startswith("cannot reach nonsense/status: ")
    assert nonsense[2].count("\n") == 1


def test_a_proxy_is_ignored(folder: Path) -> None:
    """`status` ignores a proxy in the environment: it could not reach a service on this machine."""
    with exporter(busy) as url:
        leave_url(folder, url)
        code, _, err = asyncio.run(ask(folder, http_proxy="http://127.0.0.1:9", no_proxy=""))

    assert (code, err) == (0, "")
