"""The part of /status about Xids."""

from msgspec import Struct


class XidSeen(Struct, frozen=True):
    """An Xid, harmless or not, that was reported since the health monitor started."""

    uuid: str | None
    """The UUID of the GPU; null: the driver named no GPU."""
    xid: int
    """The Xid's number."""
    name: str
    """Its name in NVIDIA's catalogue."""
    count: int
    """How often the driver reported it."""
    last: float | None
    """When the driver reported it last, as unix time."""
