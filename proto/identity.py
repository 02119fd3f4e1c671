"""Which file a path leads to, to notice that it was made anew or written to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Identity:
    """A file; a socket that is made anew often gets the old inode, but never the old ctime."""

    inode: int
    changed: int
    """Its ctime, in nanoseconds."""

    @classmethod
    def of(cls, path: str) -> Self | None:
        """Return the identity of what is at *path*, None if nothing can be seen there."""
        try:
            found = Path(path).stat()
        except OSError:
            return None
        return cls(found.st_ino, found.st_ctime_ns)
