"""Record the running NVML call for the supervisor, before the call is entered.

A process that hangs in the driver cannot report the call any more. The record is in memory shared
through a file in the runtime folder, so writing it needs no system call.
"""

import mmap
from pathlib import Path

from loguru import logger

SIZE = 256


class RunningCall:
    """The record of the running call; only the thread that sends heartbeats writes it."""

    def __init__(self, path: str) -> None:
        """Share the record through the file *path*; if the disk is full, nobody can read it."""
        try:
            self._memory = _shared(Path(path))
        except OSError as error:
            logger.warning(
                "cannot record the running NVML call: reports of a hang will not name it",
                error=str(error),
            )
            self._memory = mmap.mmap(-1, SIZE)
        self.leave()

    def enter(self, call: str) -> None:
        """Record that *call* begins."""
        self._memory[:] = call.encode()[:SIZE].ljust(SIZE, b"\0")

    def leave(self) -> None:
        """Record that the call has ended."""
        self._memory[0] = 0


def _shared(file: Path) -> mmap.mmap:
    # Reuse the file of an earlier monitor: that works on a full disk too.
    if not file.is_file() or file.stat().st_size != SIZE:
        file.write_bytes(bytes(SIZE))
    with file.open("r+b") as opened:
        return mmap.mmap(opened.fileno(), SIZE)


def read(path: str) -> str:
    """Return the running call from the file *path*; empty: no call runs."""
    try:
        return Path(path).read_bytes().split(b"\0", 1)[0].decode(errors="replace")
    except OSError:
        return ""
