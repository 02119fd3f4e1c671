"""What processes need from the machine: file identities, served sockets, dying with a parent."""

import ctypes
import errno
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Self


def since_boot() -> float:
    """Return the seconds since the node booted, as /proc/PID/stat counts them for a process."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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
            found = os.stat(path)  # noqa: PTH116 - each process does this once a second
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
