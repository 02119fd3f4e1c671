"""What the kernel lets each process do: a process keeps only the capabilities that it needs.

The service may be started with any capabilities. The supervisor gives up those that no child needs,
and each child gives up those of the others. What a process gives up, it and all programs that it
starts can never get back; see capabilities(7).
"""

import ctypes
import errno
import os
from collections.abc import Iterable
from enum import IntEnum

from supervisor.prctl import prctl

PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
"""From linux/prctl.h."""

VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 of linux/capability.h: sets of 64 bits, in two halves."""


HIGHEST = 63
"""The highest number that a capability can have."""


class Capability(IntEnum):
    """The capabilities that the service may need, numbered as in linux/capability.h."""

    CHOWN = 0
    SETPCAP = 8
    SYS_MODULE = 16
    SYS_ADMIN = 21
    MKNOD = 27
    SYSLOG = 34


DRIVER = (Capability.SYS_ADMIN, Capability.SYS_MODULE, Capability.MKNOD, Capability.CHOWN)
"""For NVML, as far as the service was given them; see docs/decisions/0012-rights.md.

NVML starts nvidia-modprobe if the driver's module is not loaded or device nodes are missing. That
loads the module, and creates the nodes for the group that the driver's settings name. SYS_ADMIN
gives access to all MIG instances where the device node for that is missing, as in some containers,
and shows the PCI configuration of a virtual GPU, which names its host's driver.
"""

MONITOR = (*DRIVER, Capability.SYSLOG)
"""For the health monitor; without SYSLOG, many kernels refuse to show their log."""

HANDED_ON = (*MONITOR, Capability.SETPCAP)
"""For the supervisor: what any child needs, and what a child needs to give up the rest."""


EVERYTHING = tuple(range(HIGHEST + 1))
"""For NVIDIA's MPS daemons, which look into /proc for clients of all users; as far as given."""


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct of linux/capability.h; pid 0 is the calling thread."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Half(ctypes.Structure):
    """struct __user_cap_data_struct of linux/capability.h: 32 bits of each set."""

    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)


def keep(capabilities: Iterable[int], *, dormant: bool = False) -> str:
    """Give up all other capabilities for good, while this process has one thread only.

    With *dormant*, the process does not use those that it keeps: it only hands them on to its
    children. Returns why the kernel or a sandbox refuses this; empty: it is done.
    """
    try:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        _keep(_bits(capabilities), dormant=dormant)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _keep(wanted: int, *, dormant: bool) -> None:
    held = _permitted()
    if held & _bits([Capability.SETPCAP]):
        _set(effective=held, permitted=held)
        for number in range(HIGHEST + 1):
            if not wanted >> number & 1:
                _deny_programs(number)
    _set(effective=0 if dormant else held & wanted, permitted=held & wanted)


def _bits(capabilities: Iterable[int]) -> int:
    return sum(1 << capability for capability in set(capabilities))


def _deny_programs(number: int) -> None:
    """Take a capability out of the bounding set: no program that this process starts gets it.

    This needs SETPCAP. Without it, no_new_privs alone keeps programs from getting more.
    """
    try:
        prctl(PR_CAPBSET_DROP, number)
    except OSError as error:
        if error.errno != errno.EINVAL:  # this kernel has no capability of that number
            raise


def _permitted() -> int:
    halves = (2 * _Half)()
    _call(_libc.capget, halves)
    low, high = halves
    return int(low.permitted) | int(high.permitted) << 32


def _set(*, effective: int, permitted: int) -> None:
    """Set the capabilities of this thread; no inheritable ones means no ambient ones either."""
    half = (1 << 32) - 1
    low = _Half(effective & half, permitted & half, 0)
    high = _Half(effective >> 32, permitted >> 32, 0)
    _call(_libc.capset, (2 * _Half)(low, high))


def _call(function: "ctypes._NamedFuncPointer", halves: "ctypes.Array[_Half]") -> None:
    if function(ctypes.byref(_Header(VERSION, 0)), halves) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
