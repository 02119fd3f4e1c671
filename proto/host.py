"""What processes ask of their machine: folders of their own, which file is which, dying together.

Who may write into a folder can put a link in the place of a file of ours, and have us write
elsewhere. Who may write into one above it, or owns that, can put another folder in its place.
"""

import ctypes
import errno
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

OTHERS = stat.S_IRWXG | stat.S_IRWXO
WRITABLE = stat.S_IWGRP | stat.S_IWOTH


def make_private(path: Path) -> None:
    """Have a folder at *path* that is safe, and closed to others if it is empty; OSError if not.

    One that is not empty stays readable: it may be another's by mistake, and our files in it have
    modes of their own.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_ours(path)
    if path.stat().st_mode & OTHERS and not any(path.iterdir()):
        path.chmod(0o700)  # such as Kubernetes' emptyDir, in which all may write
    require_safe(path)


def require_safe(path: Path) -> None:
    """Raise PermissionError if others than root and us can change what is in *path*."""
    _require_ours(path)
    if path.stat().st_mode & WRITABLE:
        raise _refusal(path, "other users can write to it; remove it, or run chmod go-w on it")
    for folder in sorted({*path.absolute().parents, *path.resolve().parents}):
        _require_ours(folder)
        mode = folder.stat().st_mode
        # In a folder with the sticky bit, such as /tmp, nobody renames what is another's.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _refusal(path, f'other users can write to "{folder}"')


def _require_ours(path: Path) -> None:
    """Refuse a folder, or a link to one, of somebody who could have us work in any other."""
    for folder in (path, path.resolve()):
        if folder.lstat().st_uid not in {0, os.geteuid()}:
            raise _refusal(path, f'"{folder}" belongs to another user')


def _refusal(path: Path, why: str) -> PermissionError:
    return PermissionError(errno.EPERM, f"unsafe folder: {why}", str(path))


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


PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, whose pid was *parent*."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it ended before the kernel was told
