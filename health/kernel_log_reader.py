"""Read the kernel log for the monitor's loop, which this never blocks and never keeps busy.

/dev/kmsg gives one record a read. A fifo and a text file, for tests and odd hosts, give lines: each
a record in the form of /dev/kmsg, or what dmesg, syslog or journalctl print. A first monitor begins
at the end; a later one of the same boot with the record after the newest that gave an event.
"""

import errno
import math
import os
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from health.kernel_log import Event, event_of, sequence

KMSG = "/dev/kmsg"

MOST_LINES, MOST_EVENTS = 1000, 100
"""Lines and events of one turn; a turn that reached either is followed by a pause.

So a flood costs this process less than half a CPU core: 100,000 lines or 10,000 events a second.
"""

PAUSE = 0.01
"""Seconds of a pause; what the kernel overwrites meanwhile is lost, and counted."""

FILE_PERIOD = 0.25
"""Seconds between two looks at a text file, for which nothing can wait."""

LONGEST_RECORD = 8192
"""Bytes of the longest record of /dev/kmsg, and of the longest line that is read."""

LONGEST_PAST = 1 << 20
"""Bytes before the end of a text file that are read for what the former monitor has missed."""


class KernelLog:
    """The events of the kernel log since *after*, the number of the newest record that gave one.

    *after* is None for the first monitor of a boot. Where the log cannot be read, there are none.
    """

    def __init__(self, path: str, after: int | None) -> None:
        self._path = path
        self._after = -1 if after is None else after
        self._past = after is not None
        """Whether records may still come that a former monitor has seen."""
        self._last: bytes = b""
        self._overrun = False
        self._lines: deque[bytes] = deque()
        self._rest = b""
        """The part of a line whose end is not there yet."""
        self._due = math.inf
        self._fd = -1
        self._kind = 0
        self.newest = after
        """The number of the newest record that gave an event; None: none did."""
        self.lost = 0
        """Records that the kernel overwrote before they were read."""
        if path:
            self._guarded(self._open)

    @property
    def readable(self) -> bool:
        """Whether the log is open."""
        return self._fd >= 0

    def wait(self) -> tuple[int | None, float]:
        """Return the descriptor to wait for before the next `read`, or None, and the time.

        The time is infinity if only the descriptor counts, or if there will be nothing to read.
        """
        return None if self._fd < 0 or self._due < math.inf else self._fd, self._due

    def read(self, now: float) -> list[Event]:
        """Return the next events, in order; not all if there are many, none during a pause."""
        events: list[Event] = []
        if self._fd >= 0 and (self._due == math.inf or now >= self._due):
            self._guarded(lambda: self._read(events, now))
        return events

    def close(self) -> None:
        """Read nothing from now on."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._due = -1, math.inf

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            if not self.readable and self._path == KMSG:
                # Usual in a container that is not privileged.
                logger.info(
                    "the kernel log is not there: only NVML tells of faults", error=str(error)
                )
            else:
                logger.warning(
                    "cannot read the kernel log: only NVML tells of faults",
                    file=self._path,
                    error=str(error),
                )
            self.close()

    def _open(self) -> None:
        # A fifo that is open for writing too stays open when its last writer has gone.
        mode = os.O_RDWR if stat.S_ISFIFO(Path(self._path).stat().st_mode) else os.O_RDONLY
        self._fd = os.open(self._path, mode | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        self._kind = stat.S_IFMT(os.fstat(self._fd).st_mode)
        if self._kind not in {stat.S_IFCHR, stat.S_IFIFO, stat.S_IFREG}:
            raise OSError(errno.EINVAL, "neither a kernel log, nor a fifo or a text file")
        if self._kind == stat.S_IFREG:
            size = os.fstat(self._fd).st_size
            os.lseek(self._fd, max(0, size - LONGEST_PAST) if self._past else size, os.SEEK_SET)
            self._due = 0.0
        elif self._kind == stat.S_IFCHR and not self._past:
            os.lseek(self._fd, 0, os.SEEK_END)

    def _read(self, events: list[Event], now: float) -> None:
        self._due = math.inf
        for _ in range(MOST_LINES):
            line = self._record() if self._kind == stat.S_IFCHR else self._line()
            if line is None:
                self._past = False
                if self._kind == stat.S_IFREG:
                    self._follow()
                    self._due = now + FILE_PERIOD
                return
            if (event := self._event(line)) is not None:
                events.append(event)
                if len(events) == MOST_EVENTS:
                    break
        self._due = now + PAUSE

    def _event(self, line: bytes) -> Event | None:
        if self._overrun and line:
            self._count_lost(line)
        if self._past:
            number = sequence(line)
            if number is None or number <= self._after:
                return None  # of a line of text, nobody knows whether it was seen
        event = event_of(line)
        if event is not None:
            number = sequence(line)
            self.newest = self.newest if number is None else number
        return event

    def _record(self) -> bytes | None:
        try:
            line = os.read(self._fd, LONGEST_RECORD)
        except BlockingIOError:
            return None
        except BrokenPipeError:  # the kernel has overwritten what was next
            self._overrun = True
            return b""
        if not line:
            raise OSError(errno.EIO, "the file has ended")
        if not self._overrun:
            self._last = line
        return line

    def _count_lost(self, line: bytes) -> None:
        """Count and log the records between the last that was read and *line*."""
        before, now = sequence(self._last), sequence(line)
        count = now - before - 1 if now is not None and before is not None else 1
        if not self.lost:
            logger.warning(
                "lost records of the kernel log: they came faster than they were read",
                file=self._path,
                records=count,
            )
        self.lost += count
        self._overrun, self._last = False, line

    def _line(self) -> bytes | None:
        """Return the next line of a file or a fifo; one that is too long is empty."""
        while not self._lines:
            try:
                more = os.read(self._fd, 8 * LONGEST_RECORD)
            except BlockingIOError:
                return None
            if not more:
                return None
            *lines, rest = more.split(b"\n")
            if lines:
                lines[0] = self._rest + lines[0]
                self._lines.extend(lines)
                self._rest = rest
            else:
                self._rest = (self._rest + rest)[: LONGEST_RECORD + 1]
        line = self._lines.popleft()
        return line if len(line) <= LONGEST_RECORD else b""

    def _follow(self) -> None:
        """Go on in the new file if the text file was replaced, or at the start if it was cut."""
        try:
            there = Path(self._path).stat()
        except FileNotFoundError:
            return  # it is being replaced
        here = os.fstat(self._fd)
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            self.close()
            self._past, self._rest, self._after = True, b"", -1
            self._open()
            self._past = False
        elif here.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
            os.lseek(self._fd, 0, os.SEEK_SET)
            self._rest = b""
