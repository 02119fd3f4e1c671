"""The Xids that NVIDIA documents: their meaning, what to do, and whether they are fatal.

By default an Xid is fatal if it needs a reset, a reboot or a technician. It is not fatal if it ends
or concerns only the application. NVIDIA's device plugin v0.20 differs: it ignores only 13, 31, 43,
45, 68 and 109. So 63 (a page was retired in time) and 94 (an error contained in one application)
make a GPU Unhealthy there but not here. 109, for which the catalogue asks for a reset, makes it
Unhealthy here but not there.
"""

import enum
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import msgspec

SOURCE = "https://docs.nvidia.com/deploy/xid-errors/"
"""NVIDIA's catalogue of Xids; names of older Xids are from nverror.h of its open kernel modules.

Where the catalogue has a workflow instead of an action, the action is the workflow's last resort.
"""


class Action(enum.StrEnum):
    """What the catalogue recommends."""

    IGNORE = "ignore"
    RESTART_APP = "restart-app"
    RESET_GPU = "reset-gpu"
    REBOOT = "reboot"
    CONTACT_SUPPORT = "contact-support"


class Xid(msgspec.Struct, frozen=True):
    """One Xid: an error that the driver reports."""

    xid: int
    name: str
    meaning: str
    action: Action
    fatal: bool
    """Whether it makes a GPU Unhealthy, unless the settings overrule it."""


FATAL_ACTIONS = {Action.RESET_GPU, Action.REBOOT, Action.CONTACT_SUPPORT}

HARMLESS = {78}
"""Not fatal despite the action: a vGPU that did not start says nothing about the GPU."""

UNDECIDED = frozenset(range(144, 151))
"""Each has fatal and harmless sub-codes, which NVML does not report (workflow NVLINK5_ERR).

So after a fatal one the driver's recovery action decides, if the driver reports it.
"""

Rows = dict[int, tuple[str, str]]
"""Name and meaning by Xid."""

IGNORE: Rows = {
    14: ("fake error", "Injected to test error reporting."),
    37: ("FECS unimplemented method", "The context switch firmware got an unknown command."),
    38: ("FECS watchdog timeout", "The context switch firmware took too long."),
    43: ("GPU stopped processing", "An application error ended its channel."),
    44: ("fault during context switch", "The graphics engine failed while it switched contexts."),
    45: ("preemptive channel removal", "A channel was removed; the Xid before it has the cause."),
    63: ("memory retirement event", "A bad memory page or row was retired, as designed."),
    66: (
        "FECS register access violation",
        "The context switch firmware accessed a forbidden register.",
    ),
    67: ("FECS verification violation", "The context switch firmware failed a check."),
    92: ("many single-bit ECC errors", "ECC corrected errors, but more often than usual."),
    93: ("inforom erase limit exceeded", "The card's inforom cannot be written any more."),
    106: ("SMBPBI test message", "A test message on the management bus."),
    107: (
        "SMBPBI test message, silent",
        "A test message on the management bus that is not logged.",
    ),
    108: ("NVLink translation error", "A remote address could not be translated."),
    121: ("C2C link corrected error", "The chip-to-chip link corrected an error."),
    137: ("NVLink privilege error", "Access to a remote GPU's memory was denied."),
    141: ("fast path error", "The driver had an error on one of its fast paths."),
    147: ("NVLink 5 TREX error", "A part of the NVLink reported a harmless error."),
    148: ("NVLink 5 NVLPW_CTRL error", "A part of the NVLink reported a harmless error."),
    152: ("DLA SMMU error", "The deep learning accelerator used a wrong address."),
    153: ("DLA timeout", "The deep learning accelerator did not finish in time."),
    154: ("GPU recovery action changed", "The driver asks for a different recovery action."),
    157: ("resource retirement failure", "A part of the GPU could not be taken out of use."),
    160: ("channel retirement event", "A channel was taken out of use."),
    161: ("channel retirement failure", "A channel could not be taken out of use."),
    162: ("power smoothing reengaged", "Power smoothing works again."),
    163: ("power smoothing disengaged", "Power smoothing is off."),
    164: ("power smoothing low lifetime", "The power smoothing circuit is almost worn out."),
    165: ("power smoothing zero lifetime", "The power smoothing circuit is worn out."),
    168: ("reduced memory capacity", "The GPU has less memory than it was built with."),
}

RESTART_APP: Rows = {
    8: ("FIFO idle timeout", "The GPU stopped processing a channel's work."),
    11: ("graphics hardware missing", "Work was sent to an engine that the GPU does not have."),
    13: ("graphics engine exception", "Often an out-of-bounds address in the application."),
    25: ("illegal notify", "A channel asked for an invalid notification."),
    31: ("GPU memory page fault", "The application accessed an unmapped address."),
    32: ("invalid push buffer", "The command stream to the GPU is corrupt."),
    60: ("SEC2 video exception", "The video security processor had an exception."),
    69: ("graphics class error", "An engine was used in an invalid way."),
    80: ("push buffer CRC mismatch", "The command stream was damaged in transit."),
    94: ("contained memory error", "An uncorrectable ECC error hit only one application."),
    **{
        xid: (f"copy engine {engine} error", "A memory copy of the application failed.")
        for engine, xid in enumerate((39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136)))
    },
    **{
        xid: (f"video decoder {engine} error", "Video decoding failed.")
        for engine, xid in enumerate((68, 83, 84, 88, 89, 96, 97, 98))
    },
    **{
        xid: (f"image decoder {engine} error", "JPEG decoding failed.")
        for engine, xid in enumerate((82, *range(99, 106)))
    },
    **{
        xid: (f"optical flow engine {engine} error", "An optical flow computation failed.")
        for engine, xid in enumerate((86, 139))
    },
}

RESET_GPU: Rows = {
    46: ("GPU timeout", "The GPU makes no progress."),
    48: ("double-bit ECC error", "ECC found a memory error that it cannot correct."),
    62: ("PMU halt", "The power management processor of the GPU stopped."),
    64: ("memory retirement failure", "A bad memory page or row could not be retired."),
    74: ("NVLink error", "An NVLink failed; if it fails after a reset too, suspect hardware."),
    95: ("uncontained memory error", "An uncorrectable ECC error may have hit every application."),
    109: ("context switch timeout", "The GPU cannot switch away from an application."),
    110: ("security fault", "The GPU raised a security fault."),
    119: ("GSP RPC timeout", "The GPU System Processor (GSP) does not answer."),
    120: ("GSP error", "The GPU System Processor (GSP) failed."),
    136: ("NVLink training failed", "An NVLink did not come up."),
    140: ("unrecovered ECC error", "The GPU did not recover from ECC errors."),
    143: ("GPU initialisation error", "The GPU did not initialise."),
    144: ("NVLink 5 SAW error", "A part of the NVLink failed."),
    145: ("NVLink 5 RLW error", "A part of the NVLink failed."),
    146: ("NVLink 5 TLW error", "A part of the NVLink failed."),
    149: ("NVLink 5 NETIR error", "A part of the NVLink failed."),
    150: ("NVLink 5 MSE error", "A part of the NVLink failed."),
    155: ("NVLink software-defined error", "The driver considers an NVLink faulty."),
    156: ("resource retirement event", "The next reset takes a part of the GPU out of use."),
    158: ("GPU fatal timeout", "The GPU makes no progress and cannot recover."),
    159: ("CHI non-data error", "The coherent interconnect failed."),
    167: ("PCIe fatal timeout", "PCIe did not answer in time."),
    169: ("SEC2 halt", "The security processor of the GPU stopped."),
    171: ("uncorrectable DRAM error", "Comes with an Xid 48: the bad memory is the GPU's DRAM."),
    172: ("uncorrectable SRAM error", "Comes with an Xid 48: the bad memory is SRAM on the chip."),
}

REBOOT: Rows = {
    79: ("GPU has fallen off the bus", "The driver cannot reach the GPU over PCIe any more."),
    151: ("key rotation error", "Confidential computing could not rotate its keys."),
}

CONTACT_SUPPORT: Rows = {
    54: ("auxiliary power not connected", "The card's power cable is missing or loose."),
    78: ("vGPU start error", "A vGPU did not start; driver versions may not match."),
    142: ("video encoder 3 error", "Video encoding failed."),
    166: ("NVLink secure crypto error", "An encrypted NVLink failed to encrypt or decrypt."),
    170: ("NVLink secure error", "An encrypted NVLink failed."),
}

UNUSED = (
    *range(1, 8), 9, 10, 12, *range(15, 25), *range(26, 31), *range(33, 37), 42, 47,
    *range(49, 54), *range(55, 60), 61, 65, 73, 81, 87, 90, 91, *range(111, 119),
    *range(122, 126), 138,
)  # fmt: skip
"""Xids that drivers for Ampere and newer GPUs do not report."""

OLD_NAMES = {
    16: "vertical blank callback timeout",
    19: "display missed notifier",
    20: "MPEG engine error",
    21: "motion estimation error",
    22: "video processor error",
    23: "channel recovery logging enabled",
    27: "video processor error",
    28: "video processor 2 error",
    29: "bitstream processor error",
    33: "security engine error",
    34: "video decoder MSVLD error",
    35: "video decoder MSPDEC error",
    36: "video decoder MSPPP error",
    42: "video compositor error",
    47: "video encoder 0 error",
    58: "framebuffer memory error",
    59: "PMU error",
    61: "PMU breakpoint",
    65: "video encoder 1 error",
    73: "video encoder 2 error",
    81: "VGA subsystem error",
    87: "telemetry driver report",
    90: "L2 cache error",
    122: "SPI read failure",
    123: "SPI write failure",
    124: "SPI erase failure",
    125: "inforom filesystem error",
    138: "deep learning accelerator error",
}
"""The former names of unused Xids; the others never had a public name."""

UNEXPECTED = "Current drivers should not report this Xid; ask NVIDIA support what it means."


def _all() -> Iterator[Xid]:
    groups = {
        Action.IGNORE: IGNORE,
        Action.RESTART_APP: RESTART_APP,
        Action.RESET_GPU: RESET_GPU,
        Action.REBOOT: REBOOT,
        Action.CONTACT_SUPPORT: CONTACT_SUPPORT,
    }
    for action, rows in groups.items():
        for xid, (name, meaning) in rows.items():
            fatal = action in FATAL_ACTIONS and xid not in HARMLESS
            yield Xid(xid, name, meaning, action, fatal)
    for xid in UNUSED:
        yield Xid(xid, OLD_NAMES.get(xid, "unused"), UNEXPECTED, Action.CONTACT_SUPPORT, fatal=True)


TABLE: Mapping[int, Xid] = MappingProxyType({entry.xid: entry for entry in _all()})
"""Every Xid of the catalogue."""


def lookup(xid: int) -> Xid:
    """Return the catalogue entry of *xid*; an Xid that is not in the catalogue is fatal."""
    unnamed = Xid(xid, "not in the catalogue", UNEXPECTED, Action.CONTACT_SUPPORT, fatal=True)
    return TABLE.get(xid, unnamed)
