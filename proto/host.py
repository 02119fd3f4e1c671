"""What processes need from the machine: safe folders, file identities, and dying with a parent.

A user who can write to one of our folders can replace a file by a link, and make us write
elsewhere. A user who can write to a parent folder, or owns it, can replace our whole folder.
"""

import ctypes
import errno
import os
import signal
import socket
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

OTHERS = stat.S_IRWXG | stat.S_IRWXO
WRITABLE = stat.S_IWGRP | stat.S_IWOTH


def since_boot() -> float:
    """Return the seconds since the node booted, as /proc/PID/stat counts them for a process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def make_private(path: Path) -> None:
    """Create a safe folder at *path*, or close an empty one to other users; OSError if unsafe.

    A folder with files stays readable: the path may be a mistake, such as /etc, and our own files
    have private modes anyway.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_ours(path)
    if path.stat().st_mode & OTHERS and not any(path.iterdir()):
        path.chmod(0o700)  # such as a Kubernetes emptyDir, which every user can write to
    require_safe(path)


def require_safe(path: Path) -> None:
    """Raise PermissionError if users other than root and us can change files in *path*."""
    _require_ours(path)
    if path.stat().st_mode & WRITABLE:
        raise _refusal(path, "other users can write to it; remove it, or run chmod go-w on it")
    for folder in sorted({*path.absolute().parents, *path.resolve().parents}):
        _require_ours(folder)
        mode = folder.stat().st_mode
        # In a folder with the sticky bit, such as /tmp, users can rename only their own files.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _refusal(path, f'other users can write to "{folder}"')


def _require_ours(path: Path) -> None:
    """Refuse a folder or link of another user, who could redirect it to any other folder."""
    for folder in (path, path.resolve()):
        if folder.lstat().st_uid not in {0, os.geteuid()}:
            raise _refusal(path, f'"{folder}" belongs to another user')


def _refusal(path: Path, why: str) -> PermissionError:
    return PermissionError(errno.EPERM, f"unsafe folder: {why}", str(path))


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is: a recreated socket often gets the old inode, but never the old ctime."""

    inode: int
    changed: int
    """Its ctime, in nanoseconds."""

    @classmethod
    def of(cls, path: str) -> Self | None:
        """Return the identity of the file at *path*; None if it does not exist or is hidden."""
        try:
            found = Path(path).stat()
        except OSError:
            return None
        return cls(found.st_ino, found.st_ctime_ns)


UNSERVED = {errno.ENOENT, errno.ECONNREFUSED}
"""What connect() says where no process listens; any other error says nothing about that."""


def is_served(path: str) -> bool:
    """Return whether a process may be listening on the unix socket at *path*.

    True also for an owner that is too busy to accept a connection (EAGAIN), and for one that
    accepts another kind of connection. OSError if this process has no descriptor left.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except OSError as error:
            return error.errno not in UNSERVED
    return True


PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def die_with(parent: int) -> None:
    """Make the kernel kill this process when its parent, the process *parent*, ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # the parent ended before prctl took effect


if __name__ == "__main__":
    # As a command, `host.py PARENT COMMAND ...` runs a command that ends with the process PARENT.
    die_with(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - there is nothing for a shell to do
