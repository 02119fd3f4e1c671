"""The title of a process, as `ps` shows it.

A long title is usually written over the command line and the environment behind it. Libraries that
are loaded later, such as libraries written in Go, then find no environment there. So we write the
title into memory of our own, and tell the kernel to read the command line from there.
"""

import contextlib
import ctypes
from pathlib import Path

from supervisor.prctl import prctl

PREFIX = "gpu-sharing-plugin: "

PR_SET_NAME = 15
PR_SET_MM = 35
PR_SET_MM_MAP = 14
"""From linux/prctl.h. PR_SET_MM_MAP needs no privilege, but CONFIG_CHECKPOINT_RESTORE."""

NO_FILE = 0xFFFFFFFF
"""The value of exe_fd that leaves /proc/self/exe as it is."""

FIELDS = {
    "start_code": 26,
    "end_code": 27,
    "start_data": 45,
    "end_data": 46,
    "start_brk": 47,
    "start_stack": 28,
    "arg_start": 48,
    "arg_end": 49,
    "env_start": 50,
    "env_end": 51,
}
"""The numbers of these addresses in /proc/self/stat; see proc_pid_stat(5)."""


class _MemoryMap(ctypes.Structure):
    """struct prctl_mm_map of linux/prctl.h: where the kernel finds the parts of this process."""

    _fields_ = (
        ("start_code", ctypes.c_uint64),
        ("end_code", ctypes.c_uint64),
        ("start_data", ctypes.c_uint64),
        ("end_data", ctypes.c_uint64),
        ("start_brk", ctypes.c_uint64),
        ("brk", ctypes.c_uint64),
        ("start_stack", ctypes.c_uint64),
        ("arg_start", ctypes.c_uint64),
        ("arg_end", ctypes.c_uint64),
        ("env_start", ctypes.c_uint64),
        ("env_end", ctypes.c_uint64),
        ("auxv", ctypes.c_void_p),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None)
_libc.sbrk.argtypes = (ctypes.c_ssize_t,)
_libc.sbrk.restype = ctypes.c_void_p

# Never freed: the kernel reads the title from here whenever somebody asks for it.
_text = ctypes.create_string_buffer(1024)


def set_title(name: str) -> None:
    """Show this process as `gpu-sharing-plugin: NAME` in ps, while it has one thread only.

    If the kernel refuses this, the title is cut to the length of the process's command line.
    """
    title = f"{PREFIX}{name}".encode()[: len(_text) - 1]
    _text.value = title
    with contextlib.suppress(OSError):
        prctl(PR_SET_NAME, ctypes.addressof(_text))
    try:
        # The second field, a name in parentheses, may contain spaces: count from the third.
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        addresses = {address: int(fields[number - 3]) for address, number in FIELDS.items()}
    except (OSError, IndexError):
        return  # a sandbox without these addresses
    if not _move_to(len(title), addresses):
        _overwrite(addresses["arg_start"], addresses["arg_end"], title)


def _move_to(length: int, addresses: dict[str, int]) -> bool:
    """Tell the kernel that the command line is our title; return False if it refuses."""
    memory = _MemoryMap(**addresses, exe_fd=NO_FILE)
    memory.arg_start = ctypes.addressof(_text)
    memory.arg_end = memory.arg_start + length + 1
    memory.brk = _libc.sbrk(0)
    place, size = ctypes.addressof(memory), ctypes.sizeof(memory)
    with contextlib.suppress(OSError):
        while prctl(PR_SET_MM, PR_SET_MM_MAP, place, size) == 0:
            # The call also sets the end of the heap. If the heap grew just before, set it again.
            if (end := _libc.sbrk(0)) == memory.brk:
                return True
            memory.brk = end
    return False


def _overwrite(start: int, end: int, title: bytes) -> None:
    """Write the title over the command line, and cut it where the environment begins."""
    room = end - start
    if start and room > 0:  # some sandboxes show the addresses as 0
        ctypes.memmove(start, title[: room - 1].ljust(room, b"\0"), room)
