"""The Xids that NVIDIA documents: what each one means, what to do, and whether pods may still come.

Fatal by default is what needs a reset, a reboot or a technician; what ends or concerns only the
application is not. NVIDIA's device plugin v0.20 differs: it ignores just 13, 31, 43, 45, 68 and
109. So 63 (a page was retired in time) and 94 (an error contained in one application) take a GPU
there and not here, and 109, which the catalogue answers with a reset, takes one here.
"""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

SOURCE = "https://docs.nvidia.com/deploy/xid-errors/"
"""NVIDIA's catalogue of Xids, with names of older ones from nverror.h of its open kernel modules.

Where it gives a workflow instead of an action, the action is the last resort of that workflow.
"""


class Action(enum.StrEnum):
    """What the catalogue recommends."""

    IGNORE = "ignore"
    RESTART_APP = "restart-app"
    RESET_GPU = "reset-gpu"
    REBOOT = "reboot"
    CONTACT_SUPPORT = "contact-support"


@dataclass(frozen=True, slots=True)
class Xid:
    """One kind of error that the driver reports."""

    xid: int
    name: str
    meaning: str
    action: Action
    fatal: bool
    """Whether it makes a GPU unfit for new pods, unless the settings say otherwise."""


FATAL_ACTIONS = {Action.RESET_GPU, Action.REBOOT, Action.CONTACT_SUPPORT}

HARMLESS = {78}
"""Not fatal despite its action: a vGPU did not start, which says nothing of the GPU."""

Rows = dict[int, tuple[str, str]]
"""Name and meaning by Xid."""

IGNORE: Rows = {
    14: ("fake error", "Injected to test the reporting of errors."),
    37: ("FECS unimplemented method", "The context switcher's firmware got an unknown order."),
    38: ("FECS watchdog timeout", "The context switcher's firmware was slow."),
    43: ("GPU stopped processing", "A fault of the application ended its channel."),
    44: ("fault during context switch", "The graphics engine failed between two contexts."),
    45: ("preemptive channel removal", "A channel was cleaned up; the Xid before it says why."),
    63: ("memory retirement event", "A bad row or page of memory is replaced as designed."),
    66: ("FECS register access violation", "The context switcher touched a forbidden register."),
    67: ("FECS verification violation", "The context switcher's firmware failed a check."),
    92: ("many single-bit ECC errors", "Errors were corrected, but more often than usual."),
    93: ("inforom erase limit exceeded", "The card's own log cannot be rewritten any more."),
    106: ("SMBPBI test message", "A test of the management bus."),
    107: ("SMBPBI test message, silent", "A test of the management bus, not logged."),
    108: ("NVLink translation error", "A remote address could not be translated."),
    121: ("C2C link corrected error", "The link between two chips corrected an error."),
    137: ("NVLink privilege error", "Access to a remote GPU's memory was denied."),
    141: ("fast path error", "An error on a fast path of the driver."),
    147: ("NVLink 5 TREX error", "A part of the NVLink reported an error of no consequence."),
    148: ("NVLink 5 NVLPW_CTRL error", "A part of the NVLink reported an error of no consequence."),
    152: ("DLA SMMU error", "The deep learning accelerator used a wrong address."),
    153: ("DLA timeout", "The deep learning accelerator did not finish in time."),
    154: ("GPU recovery action changed", "The driver now asks for another recovery; NVML has it."),
    157: ("resource retirement failure", "A part of the GPU could not be retired."),
    160: ("channel retirement event", "A channel is taken out of use."),
    161: ("channel retirement failure", "A channel could not be taken out of use."),
    162: ("power smoothing reengaged", "Power smoothing works again."),
    163: ("power smoothing disengaged", "Power smoothing is off."),
    164: ("power smoothing low lifetime", "The power smoothing circuit is near its end."),
    165: ("power smoothing zero lifetime", "The power smoothing circuit is worn out."),
    168: ("reduced memory capacity", "The GPU has less memory than it was built with."),
}

RESTART_APP: Rows = {
    8: ("FIFO idle timeout", "The GPU stopped processing a channel's work."),
    11: ("graphics hardware missing", "Work was sent to an engine that is not there."),
    13: ("graphics engine exception", "Often an address out of bounds in the application."),
    25: ("illegal notify", "A channel asked for a notification that cannot be."),
    31: ("GPU memory page fault", "The application used an address that is not mapped."),
    32: ("invalid push buffer", "The stream of commands to the GPU is corrupt."),
    60: ("SEC2 video exception", "The video security processor refused its work."),
    69: ("graphics class error", "An engine was used in a way that it does not know."),
    80: ("push buffer CRC mismatch", "The stream of commands was damaged on its way."),
    94: ("contained memory error", "An ECC error that hit one application only."),
    **{
        xid: (f"copy engine {engine} error", "A copy of the application failed.")
        for engine, xid in enumerate((39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136)))
    },
    **{
        xid: (f"video decoder {engine} error", "Decoding of video failed.")
        for engine, xid in enumerate((68, 83, 84, 88, 89, 96, 97, 98))
    },
    **{
        xid: (f"image decoder {engine} error", "Decoding of a JPEG image failed.")
        for engine, xid in enumerate((82, *range(99, 106)))
    },
    **{
        xid: (f"optical flow engine {engine} error", "Computing of optical flow failed.")
        for engine, xid in enumerate((86, 139))
    },
}

RESET_GPU: Rows = {
    46: ("GPU timeout", "The GPU does not make progress."),
    48: ("double-bit ECC error", "Memory was damaged beyond correction."),
    62: ("PMU halt", "The GPU's power management processor stopped."),
    64: ("memory retirement failure", "A bad row or page of memory could not be replaced."),
    74: ("NVLink error", "A link failed; if it does again after a reset, it is hardware."),
    95: ("uncontained memory error", "An ECC error that may have hit every application."),
    109: ("context switch timeout", "The GPU cannot leave an application's context."),
    110: ("security fault", "The GPU raised a security fault."),
    119: ("GSP RPC timeout", "The GPU's system processor does not answer."),
    120: ("GSP error", "The GPU's system processor failed."),
    136: ("NVLink training failed", "A link did not come up."),
    140: ("unrecovered ECC error", "Memory errors were found and not recovered from."),
    143: ("GPU initialisation error", "The GPU did not start."),
    144: ("NVLink 5 SAW error", "A part of the NVLink failed."),
    145: ("NVLink 5 RLW error", "A part of the NVLink failed."),
    146: ("NVLink 5 TLW error", "A part of the NVLink failed."),
    149: ("NVLink 5 NETIR error", "A part of the NVLink failed."),
    150: ("NVLink 5 MSE error", "A part of the NVLink failed."),
    155: ("NVLink software-defined error", "The driver holds a link to be in error."),
    156: ("resource retirement event", "A part of the GPU is out of use after the next reset."),
    158: ("GPU fatal timeout", "The GPU does not make progress and will not."),
    159: ("CHI non-data error", "The coherent interconnect failed."),
    167: ("PCIe fatal timeout", "The bus does not answer in time."),
    169: ("SEC2 halt", "The GPU's security processor stopped."),
    171: ("uncorrectable DRAM error", "Which memory an Xid 48 was about: the GPU's DRAM."),
    172: ("uncorrectable SRAM error", "Which memory an Xid 48 was about: on the chip itself."),
}

REBOOT: Rows = {
    79: ("GPU has fallen off the bus", "The GPU cannot be reached over PCIe any more."),
    151: ("key rotation error", "Confidential computing could not renew its keys."),
}

CONTACT_SUPPORT: Rows = {
    54: ("auxiliary power not connected", "The card's power cable is missing or loose."),
    78: ("vGPU start error", "A virtual GPU did not start; driver versions may not match."),
    142: ("video encoder 3 error", "Encoding of video failed."),
    166: ("NVLink secure crypto error", "An encrypted link failed to encrypt or decrypt."),
    170: ("NVLink secure error", "An encrypted link failed in another way."),
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
"""What the unused ones were; the rest never had a public name."""

UNEXPECTED = "Today's drivers do not report it; nobody but NVIDIA can say what it means."


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


TABLE: Mapping[int, Xid] = MappingProxyType({one.xid: one for one in _all()})
"""Every Xid of the catalogue."""


def lookup(xid: int) -> Xid:
    """Return what is known of *xid*; one that the catalogue does not name is fatal."""
    unnamed = Xid(xid, "not in the catalogue", UNEXPECTED, Action.CONTACT_SUPPORT, fatal=True)
    return TABLE.get(xid, unnamed)
