"""What holds for every test: it leaves no process behind."""

import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.figures import FIGURES

PR_SET_CHILD_SUBREAPER = 36


def pytest_configure() -> None:
    """Become the parent of orphans, so that what a killed supervisor leaves behind is seen here."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was measured."""
    for line in FIGURES:
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    before = children(os.getpid())
    yield
    left = {pid: title(pid) for pid in children(os.getpid()) - before}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    running = [name for name in left.values() if name]
    assert not running, f"left behind: {running}"


def children(pid: int) -> set[int]:
    """Return the pids of the direct children of *pid*, zombies included."""
    return {
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    }


def title(pid: int) -> str:
    """Return the command line of a process; empty for a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
