"""The system call prctl, which changes what the kernel knows of this process, or lets it do."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *4 * (ctypes.c_ulong,))


def prctl(option: int, *arguments: int) -> int:
    """Make the system call and return its result; OSError if the kernel refuses it."""
    result: int = _libc.prctl(option, *arguments, *(4 - len(arguments)) * (0,))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
