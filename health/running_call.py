"""Tell the supervisor which call of the driver's library is running, before it is entered.

A process that hangs in the driver cannot tell it any more. The text is in memory that is shared by
way of a file in the runtime folder, so that writing it costs no system call.
"""

import mmap
from pathlib import Path

from loguru import logger

SIZE = 256


class RunningCall:
    """The one text, of the thread that beats."""

    def __init__(self, path: str) -> None:
        """Keep it at *path*; where that cannot be, as on a full disk, nobody reads it."""
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
        """Note that *call* begins."""
        self._memory[:] = call.encode()[:SIZE].ljust(SIZE, b"\0")

    def leave(self) -> None:
        """Note that it has ended."""
        self._memory[0] = 0


def _shared(file: Path) -> mmap.mmap:
    # The file of an earlier monitor is used as it is: that takes no space on a disk.
    if not file.is_file() or file.stat().st_size != SIZE:
        file.write_bytes(bytes(SIZE))
    with file.open("r+b") as opened:
        return mmap.mmap(opened.fileno(), SIZE)


def read(path: str) -> str:
    """Return the call that is running in the process of a trace; empty when there is none."""
    try:
        return Path(path).read_bytes().split(b"\0", 1)[0].decode(errors="replace")
    except OSError:
        return ""
