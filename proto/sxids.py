"""The errors of NVSwitches that the kernel log has told."""

import msgspec


class SXidCount(msgspec.Struct, frozen=True):
    """How often an NVSwitch reported an error since the monitor started."""

    switch: str
    """The switch's PCI address."""
    sxid: int
    fatal: bool
    """The driver's word for the severity."""
    count: int
