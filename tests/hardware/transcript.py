"""A transcript of what nvidia-cuda-mps-control does, without PIDs, times and UUIDs.

`| ` is stdout, `! ` stderr, `+ ` what a command makes the daemon log if that is not just stdout,
`@ ` what else is logged, by process and only the first time, `% ` what a client says. Lines that
begin with `~` are times, which no two runs share; `hw ` needs a driver.
"""

import re
import select
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

UUID = "GPU-UUID"

UNSET = re.compile(r"(Received new client request for) \{PID: -?\d+, Context ID: -?\d+\}")
"""A server logs this before it knows who has connected: the numbers are left from others."""

CONTEXT = re.compile(r"\| (\d{3,})\.([1-9]\d*)")
"""A PID and a context, as get_device_client_list has them; a percentage is at most 100.0."""


def _replaced(line: str, names: Mapping[str, str]) -> str:
    for key in sorted(names, key=len, reverse=True):
        whole = rf"(?<![\w]){re.escape(key)}(?!\w|\.\d)( *)"  # 25.0 is no PID
        line = re.sub(whole, partial(_padded, names[key]), line)
    return line


def _padded(name: str, found: re.Match[str]) -> str:
    """In a table, a name takes the width of what it replaces."""
    return name.ljust(len(found[0])) if len(found[1]) > 1 else name + found[1]


def until(met: Callable[[], object], seconds: float) -> bool:
    """Wait until *met*; return whether it came to that."""
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            return False
        select.select([], [], [], 0.02)
    return True


class Transcript:
    """Lines, with a name instead of each PID and UUID."""

    def __init__(self, uuid: str, folder: Path, patience: float) -> None:
        self.patience = patience
        """Seconds to wait for what should come."""
        self.lines: list[str] = []
        self._always = {
            uuid: UUID,
            uuid[:22]: UUID,
            sys.executable: "PYTHON",
            str(folder): "FOLDER",
            str(Path("/proc/self/ns/pid").stat().st_ino): "NAMESPACE",
        }
        self._pids: dict[str, str] = {}
        self._logged: set[str] = set()
        self.servers: list[int] = []

    def title(self, text: str) -> None:
        """Begin a section, in which processes are counted anew."""
        self._pids = {}
        self.servers = []
        self.say("")
        self.say(f"== {text}")

    def say(self, line: str) -> None:
        """Add a line without PIDs, and print it."""
        self._add(_replaced(line, self._always))

    def quote(self, line: str) -> None:
        """Add a line in which PIDs can be, and print it."""
        if found := CONTEXT.fullmatch(line):
            line = f"| {self.called(found[1])}.{found[2]}"
        self._add(self._told(line))

    def _add(self, line: str) -> None:
        self.lines.append(line.rstrip())
        print(self.lines[-1], flush=True)  # noqa: T201

    def logged(self, pid: str, kind: str, text: str) -> None:
        """Add a line that was logged, unless an equal one was logged before by any process."""
        text = UNSET.sub(r"\1 {PID: ANY, Context ID: ANY}", text)
        told = re.sub(r"(SERVER|CLIENT)\d+", r"\1", self._told(f"{kind}: {text}"))
        if told not in self._logged:
            self._logged.add(told)
            self.quote(f"@ {self.called(pid)} {kind}: {text}")

    def called(self, pid: int | str) -> str:
        """Return the name of a process."""
        return self._pids.get(str(pid), "OTHER")

    def _told(self, line: str) -> str:
        return _replaced(line, {**self._pids, **self._always})

    def name(self, pid: int, name: str) -> None:
        """Write *name* instead of this PID."""
        self._pids[str(pid)] = name

    def server(self, pid: int) -> None:
        """Count a server."""
        if pid not in self.servers:
            self.servers.append(pid)
            self.name(pid, f"SERVER{len(self.servers)}")


def alive(pid: int) -> bool:
    """Return whether a process exists that is no zombie: not every init collects them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
