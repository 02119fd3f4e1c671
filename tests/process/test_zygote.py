"""A service that is forked from a zygote is as one that is executed: so tests may start either."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.fakes import commands
from tests.fakes.forked import Forked
from tests.fakes.service import kubelet, open_files, service

STATUS = re.compile(
    r"^(?:Umask|Uid|Gid|Groups|Sig(?:Blk|Ign|Cgt)|Cap\w+|NoNewPrivs|Seccomp):.*", re.MULTILINE
)
EXECUTED = "compared with a forked one"


def seen(pid: int) -> dict[str, object]:
    """Return what the kernel shows of a process, but for memory, times and its pid."""
    root = Path(f"/proc/{pid}")
    parent, *group_and_session = (root / "stat").read_text().rpartition(")")[2].split()[1:4]
    return {
        "status": STATUS.findall((root / "status").read_text()),
        "a child of this process": int(parent) == os.getpid(),
        "group and session": group_and_session,
        "limits": (root / "limits").read_text(),
        "folder": (root / "cwd").readlink(),
        "program": (root / "exe").readlink(),
        "title": (root / "cmdline").read_bytes(),
        "name": (root / "comm").read_text(),
        "input and output": [(root / f"fd/{number}").readlink().name[:5] for number in (0, 1, 2)],
    }


def test_the_kernel_shows_no_difference(folder: Path) -> None:
    """Signals, rights, limits, group, folder, title and the kinds of open files are the same."""

    async def story(exec_because: str) -> tuple[bool, dict[str, object]]:
        async with (
            kubelet(folder),
            service(folder, node={"gpus": [{}]}, exec_because=exec_because) as running,
        ):
            await running.ready()
            pids = {"supervisor": running.process.pid, **running.pids()}
            shown: dict[str, object] = {name: seen(pid) for name, pid in pids.items()}
            names = open_files(running.process.pid)
            files = sorted(re.sub(r"\d+", "", name) for name in names)
            assert await running.stop() == 0
            return isinstance(running.process, Forked), shown | {"files": files}

    forked, executed = asyncio.run(story("")), asyncio.run(story(EXECUTED))
    assert (forked[0], executed[0]) == (True, False)
    assert forked[1] == executed[1]


@pytest.mark.parametrize("option", ["--no-such-flag", "--metrics-address=nowhere"])
def test_a_refusal_is_the_same(folder: Path, option: str) -> None:
    """The words of an error and the exit code are the same."""

    async def story(exec_because: str) -> tuple[int, list[object]]:
        async with service(folder, option, exec_because=exec_because) as running:
            code = await running.ended()
        return code, [entry["message"] for entry in running.entries]

    forked, executed = asyncio.run(story("")), asyncio.run(story(EXECUTED))
    assert forked == executed
    assert forked[0] == 2


@pytest.mark.parametrize(
    "words", [("xids",), ("status", "--runtime-dir=/none"), ("labels", "--help")], ids=" ".join
)
def test_a_command_is_the_same(words: tuple[str, ...]) -> None:
    """A command prints the same and ends with the same exit code."""
    forked, executed = (commands.run(*words, exec_because=why) for why in ("", EXECUTED))
    assert forked.stdout + forked.stderr
    for name in ("returncode", "stdout", "stderr"):
        assert getattr(forked, name) == getattr(executed, name)


def test_an_environment_that_only_exec_applies_is_executed(folder: Path) -> None:
    """The loader reads LD_LIBRARY_PATH only when a program starts."""

    async def story() -> bool:
        environment = {"LD_LIBRARY_PATH": str(folder)}
        async with service(folder, node={"gpus": [{}]}, environment=environment) as running:
            return isinstance(running.process, Forked)

    assert not asyncio.run(story())
