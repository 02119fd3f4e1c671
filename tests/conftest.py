"""Hooks for all tests: no test may leave a process behind; measured times are shown."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.fakes.figures import FIGURES

PR_SET_CHILD_SUBREAPER = 36


hypothesis.settings.register_profile(
    "quick",
    max_examples=40,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # a busy machine is slow too
)


def pytest_configure() -> None:
    """Become the parent of orphans, to see processes that a killed supervisor leaves behind."""
    hypothesis.settings.load_profile("quick")
    os.umask(
        0o022
    )  # with 002, as some systems have it, the service would refuse the tests' folders
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send measured times to pytest's main process, when tests run in several processes."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["figures"] = FIGURES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the times that a test process measured; a crashed process has none."""
    FIGURES.extend(getattr(node, "workeroutput", {}).get("figures", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the measured times."""
    for line in sorted(FIGURES):
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    before = _ours()
    yield
    left = {pid: title(pid) for pid in _ours() - before}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    running = [name for name in left.values() if name]
    assert not running, f"left behind: {running}"


def _ours() -> set[int]:
    """Return the pids of our children; one call if there are none, as in most unit tests."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return children(os.getpid())
    return set()


def children(pid: int) -> set[int]:
    """Return the pids of the direct children of *pid*, zombies included."""
    found: set[int] = set()
    with contextlib.suppress(OSError):  # the process ended: it has no children
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # the thread ended meanwhile
                found.update(map(int, (task / "children").read_text().split()))
    return found


def title(pid: int) -> str:
    """Return the command line of a process; empty for a zombie."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""
