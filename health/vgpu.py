"""Find out from a GPU's PCI configuration space whether it is virtual (vGPU), and on what host.

A virtual GPU has a vendor-specific capability with the letters VF, and then records of a number, a
length and data. Record 0 has the version and the branch of the host's driver, 10 characters each.
Source: NVIDIA's GPU feature discovery.
"""

from collections.abc import Iterator

from proto.facts import HostDriver

STATUS, HAS_CAPABILITIES = 0x06, 0x10
POINTER, FIRST = 0x34, 0x40
"""Where the first capability's place is, and the first place that a capability can have."""

VENDOR_SPECIFIC = 0x09
SIGNATURE, AT = b"VF", 3
RECORDS = AT + len(SIGNATURE)
VERSION, TEXT = 0, 10

SPACE = 256
"""Bytes of the configuration space; without CAP_SYS_ADMIN the kernel shows the first 64."""


def host_driver(space: bytes) -> HostDriver | bool | None:
    """Return the host's driver of a virtual GPU; False: the GPU is not virtual; None: not known."""
    if len(space) < FIRST or space[:2] == b"\xff\xff":
        return None  # of a device that is gone, the kernel reads ones
    if not space[STATUS] & HAS_CAPABILITIES:
        return False
    if len(space) < SPACE:
        return None
    for capability in _capabilities(space):
        if capability[AT:RECORDS] == SIGNATURE:
            return _in_records(capability[RECORDS:])
    return False


def _capabilities(space: bytes) -> Iterator[bytes]:
    """Yield the vendor-specific capabilities; the list may be damaged, and form a circle."""
    place, seen = space[POINTER] & ~3, set[int]()
    while place >= FIRST and place not in seen:
        seen.add(place)
        if space[place] == VENDOR_SPECIFIC:
            yield space[place : place + space[place + 2]]
        place = space[place + 1] & ~3


def _in_records(records: bytes) -> HostDriver:
    place = 0
    while place + 2 <= len(records) and records[place + 1]:
        if records[place] == VERSION:
            data = records[place + 2 : place + 2 + 2 * TEXT]
            return HostDriver(_text(data[:TEXT]), _text(data[TEXT:]))
        place += records[place + 1]
    return HostDriver()


def _text(data: bytes) -> str:
    return data.strip(b"\0").decode("ascii", errors="replace")
