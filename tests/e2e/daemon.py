"""Run a process for a test, and wait for conditions."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")

_POLL = 0.02
_LOG_TAIL = 40


def wait_until(probe: Callable[[], Seen | None], timeout: float, what: str) -> Seen:
    """Return the first true result of *probe*; fail with *what* after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    never = threading.Event()
    while not (seen := probe()):
        assert time.monotonic() < deadline, f"waited {timeout:g} s for: {what}"
        never.wait(_POLL)
    return seen


def title(pid: int) -> str | None:
    """Return the command line of *pid*, or None if the process does not run."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return None
    # The command line of a zombie is empty: it has ended.
    return " ".join(words).strip() or None


def processes() -> dict[int, str]:
    """Return all running processes: process id to command line."""
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return {pid: command for pid in pids if (command := title(pid))}


def children(parent: int) -> dict[int, str]:
    """Return the running children of *parent*: process id to command line."""
    return {pid: command for pid, command in processes().items() if _parent(pid) == parent}


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return None


class Daemon:
    """A command that runs in the background, with its output in a file."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Start *command*; the kernel kills it if the test process dies first."""
        self.log = log
        # A new session, so that Ctrl-C stops only the tests, which then stop their daemons in
        # order.
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["/usr/bin/setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._process.poll()

    def wait_ready(self, probe: Callable[[], object], timeout: float, what: str) -> None:
        """Wait for *probe*; fail at once if the process ends, and print its log on any failure."""
        try:
            wait_until(lambda: self.exit_code is not None or probe(), timeout, what)
            assert self.exit_code is None, f"ended with code {self.exit_code} before: {what}"
        except AssertionError:
            self.show_log()
            raise

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()

    def stop(self, timeout: float = 20) -> int:
        """Send SIGTERM, kill the process if it does not end, and return its exit code."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        return self._process.wait()

    def show_log(self) -> None:
        """Print the end of the log, which pytest shows where the test failed."""
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL:]
        print(f"--- the end of {self.log.name}", *lines, sep="\n")  # noqa: T201
