"""Files in memory, which carry to another process what is too long for a datagram."""

import errno
import os

NOEXEC_SEAL = 8
"""MFD_NOEXEC_SEAL: without it, a node with vm.memfd_noexec=2 gives no memory file (Linux 6.3)."""


def memory_file(name: str) -> int:
    """Return the descriptor of a new file in memory that can be sealed; *name* shows in /proc."""
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
