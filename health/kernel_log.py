"""Read what the NVIDIA driver writes into the kernel log; one line gives one event or none.

Only records of facility 0 (kern) count: a process that writes to /dev/kmsg gets another facility,
so nobody but the kernel can write such a record. The text of a fault must stand at the start of the
record, and the words that decide something at its end: the name of a process, which its owner
chooses (15 bytes at most), stands between them and can imitate neither.

Sources: kernel_rc.c and nv.c of NVIDIA's open kernel modules, its page "Xid Errors", its Fabric
Manager User Guide (appendix D), and Documentation/ABI/testing/dev-kmsg of Linux.
"""

import re

import msgspec

LONGEST = 2048
"""Characters of a text that are read: the kernel cuts a record's text at 2048 bytes."""

USER = 8
"""The lowest priority that a record of a process can have: facility 1 (user), level 0."""

LONGEST_DETAIL = 256
"""Characters that are kept of an event's detail."""

LONGEST_NAME = 32
"""Characters that are kept of a process name; Linux has 15."""

RECOVERY_ACTION, NVLINK, NVLINK_5 = 154, 74, range(144, 151)
"""Xids whose detail is read."""


class LoggedXid(msgspec.Struct, frozen=True):
    """An Xid of a GPU."""

    pci: str
    """The GPU's PCI address, as the inventory writes it."""
    xid: int
    gi: int | None = None
    ci: int | None = None
    """The MIG instance that the driver named; None: none."""
    pid: int | None = None
    name: str = ""
    """The process, where the driver knew it."""
    detail: str = ""
    fatal: bool | None = None
    """The driver's word for the severity; None: the line has none."""
    unit: str = ""
    """The NVLink unit of Xids 144 to 150, such as RLW_RXPIPE."""
    sub_code: int | None = None
    """Bits 20 to 25 of the first register of Xids 144 to 150."""
    link: int | None = None
    """The NVLink; -1: all or none."""
    action: int | None = None
    """The recovery action that the driver asks for from now on, told by Xid 154."""


class SXid(msgspec.Struct, frozen=True):
    """An error of an NVSwitch; the driver writes three lines for each, of which this is one."""

    pci: str
    """The switch's PCI address."""
    sxid: int
    fatal: bool
    link: int | None
    detail: str


class GpuLost(msgspec.Struct, frozen=True):
    """The driver cannot reach a GPU any more."""

    pci: str
    """Empty: the line does not name the GPU by its address."""


class GpuReset(msgspec.Struct, frozen=True):
    """The kernel has reset a PCI device."""

    pci: str


class DriverLoaded(msgspec.Struct, frozen=True):
    """The driver was loaded, so it has initialised all GPUs again."""

    version: str


Event = LoggedXid | SXid | GpuLost | GpuReset | DriverLoaded

_PCI = r"([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}):([0-9a-fA-F]{2})(?:\.([0-7]))?"

# Each pattern has few places where it can go on in two ways, and none within a repetition, so a
# line takes linear time.
_XID = re.compile(
    rf"NVRM: Xid \((?:PCI:)?{_PCI}(?: GPU-I:([0-9]{{1,3}}))?(?: GPU-CI:([0-9]{{1,3}}))?\): "
    r"([1-9][0-9]{0,8})(?:, ?|\Z)"
)
_PROCESS = re.compile(r"pid=(?:([0-9]{1,10})|[^,]{1,32})(?:, name=(.{0,32}?))?(?:, |\Z)", re.DOTALL)
_NVLINK = re.compile(
    r"(?:\A|, )([A-Z][A-Z0-9_]{1,39}) {1,8}(Fatal|Nonfatal) {1,8}XC ?[0-9]{1,2} i ?[0-9]{1,2} "
    r"Link (-?[0-9]{1,3})(?: [(\[]0x([0-9a-fA-F]{1,8})(?: 0x[0-9a-fA-F]{1,8}){0,15}[)\]])?\Z"
)
_LINK = re.compile(r"detected on link ([0-9]{1,3})(?:\(|\Z)")
_ACTION = re.compile(
    r"GPU recovery action changed (?:from 0x[0-9a-f]{1,8} \([^)]{0,64}\) )?to 0x([0-9a-f]{1,8})\b"
)
_SXID = re.compile(
    rf"nvidia-nvswitch[0-9]{{1,4}}: SXid \((?:PCI:)?{_PCI}\): ([1-9][0-9]{{0,8}}), "
    r"(Fatal|Non-fatal)(?:, Link ([0-9]{1,3}))?"
)
_LOST_AT = re.compile(
    rf"NVRM: (?:The NVIDIA )?GPU (?:at (?:PCI:)?)?{_PCI}(?: \(PCI ID: [0-9a-f:]{{9}}\))?"
    r"(?: installed in this system)?(?: has fallen off the bus|: GPU (?:has fallen off the bus|is"
    r" lost))"
)
_LOST = re.compile(
    r"NVRM: (?:GPU[0-9]{1,3} )?(?:nv[A-Za-z]{1,40}: )?"
    r"(?:Check failed: )?(?:GPU lost from the bus|GPU is lost)\b"
)
_RESET = re.compile(rf"(?:nvidia|vfio-pci) {_PCI}: reset done\Z")
_LOADED = re.compile(
    r"NVRM: loading NVIDIA UNIX (?:Open )?(?:x86_64|x86|aarch64|arm64)? ?Kernel Module"
    r"(?: for [a-z0-9_]{1,16})? {1,4}([0-9][0-9.\-]{1,31})(?: |\Z)"
)

# What dmesg, syslog and journalctl put before the text of the kernel: `dmesg --raw` the priority,
# `dmesg --decode` the facility, others the time, and the name of the host with `kernel:`.
_DAY = r"[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.,]{8,19}(?:[+\-][0-9:]{4,5}|Z)?"
_HEAD = re.compile(
    r"(?:<([0-9]{1,3})>)?(?:kern {1,4}:[a-z]{3,6} {1,4}: )?"
    rf"(?:(?:{_DAY}|{_TIME}) (?:[^ ]{{1,253}} kernel: )?|kernel: )?"
    r"(?:\[[^\]]{1,40}\] ?(?:[^ ]{1,253} kernel: )?)?"
)

_RECORD = re.compile(rb"([0-9]{1,10}),([0-9]{1,20}),[0-9]{1,20},[^;\n]{0,256};([^\n]{0,2048})")
"""A record of /dev/kmsg; what follows the first line are properties, not text."""


def sequence(line: bytes) -> int | None:
    """Return the sequence number of a record of /dev/kmsg; None: it is a line of text."""
    found = _RECORD.match(line)
    return int(found[2]) if found else None


def event_of(line: bytes) -> Event | None:
    """Return the event that a record of /dev/kmsg or a line of a text file tells; None: none."""
    if b"NVRM: " not in line and b"nvidia" not in line and b"reset done" not in line:
        return None  # what nearly every line costs
    if found := _RECORD.match(line):
        return parse(found[3].decode(errors="replace")) if int(found[1]) < USER else None
    text = line[:LONGEST].decode(errors="replace")
    head = _HEAD.match(text)
    if head is None or (head[1] and int(head[1]) >= USER):
        return None
    return parse(text[head.end() :])


def parse(text: str) -> Event | None:
    """Return the event that the text of one kernel log record tells; None: none of ours."""
    # /dev/kmsg shows the line breaks within a message in this form.
    text = text[:LONGEST].replace(r"\x0aNVRM:", "").rstrip()
    if text.startswith("NVRM: Xid ("):
        return _xid(text)
    if text.startswith("nvidia-nvswitch"):
        return _sxid(text)
    if found := _LOADED.match(text):
        return DriverLoaded(found[1])
    if found := _LOST_AT.match(text):
        return GpuLost(_address(*found.groups()[:4]))
    if _LOST.match(text):
        return GpuLost("")
    if found := _RESET.match(text):
        return GpuReset(_address(*found.groups()[:4]))
    return None


def _address(domain: str, bus: str, device: str, function: str | None) -> str:
    return f"{int(domain, 16):04x}:{bus.lower()}:{device.lower()}.{function or '0'}"


def _xid(text: str) -> LoggedXid | None:
    found = _XID.match(text)
    if found is None:
        return None
    *place, gi, ci, code = found.groups()
    rest, pid, name = text[found.end() :], None, ""
    if rest.startswith("pid=") and (process := _PROCESS.match(rest)):
        pid = int(process[1]) if process[1] else None
        name = process[2] or ""
        rest = rest[process.end() :]
    return LoggedXid(
        _address(*place),
        int(code),
        int(gi) if gi else None,
        int(ci) if ci else None,
        pid,
        "" if name.strip("'") == "<unknown>" else name[:LONGEST_NAME],
        rest[:LONGEST_DETAIL],
        *_of_detail(int(code), rest),
    )


Read = tuple[bool | None, str, int | None, int | None, int | None]
"""The fields of an Xid that its detail gives: those from `fatal` on."""


def _of_detail(xid: int, detail: str) -> Read:
    if xid in NVLINK_5 and (found := _NVLINK.search(detail)):
        unit, severity, link, register = found.groups()
        sub_code = int(register, 16) >> 20 & 0x3F if register else None
        return severity == "Fatal", unit, sub_code, int(link), None
    if xid == NVLINK and (found := _LINK.search(detail)):
        return None, "", None, int(found[1]), None
    if xid == RECOVERY_ACTION and (found := _ACTION.search(detail)):
        return None, "", None, None, int(found[1], 16)
    return None, "", None, None, None


def _sxid(text: str) -> SXid | None:
    found = _SXID.match(text)
    if found is None:
        return None  # also the lines with the registers and the engine of the same error
    *place, code, severity, link = found.groups()
    return SXid(
        _address(*place),
        int(code),
        severity == "Fatal",
        int(link) if link else None,
        text[found.end(6) + 2 :][:LONGEST_DETAIL],
    )
