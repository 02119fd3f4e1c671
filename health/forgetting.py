"""Decide what is forgotten of devices that are not on the node: their number has no limit.

MIG layouts can change without end, and each instance has a UUID of its own. What is known of a
device on the node is never forgotten.
"""

from collections.abc import Container, Mapping

import msgspec

from health.condition import FORGET_AFTER, Condition
from proto.messages import XidCount

MOST_ABSENT = 256
"""Absent devices that are kept: twice as many as 16 GPUs with 7 MIG instances each."""

MOST_XIDS = 256
"""Pairs of GPU and Xid that are counted."""

XidCounts = Mapping[tuple[str, int], XidCount]
"""By the UUID of the GPU, and the Xid."""


class Entry(msgspec.Struct, frozen=True):
    """The condition of one device, and its PCI address."""

    pci_bus_id: str
    condition: Condition
    gone: bool = False
    """Whether the device was missing from the node at the last scan."""
    left: float = 0.0
    """When it was first missing, on the monotonic clock; 0: not known."""


def remembered(absent: Mapping[str, Entry], places: Container[str], now: float) -> dict[str, Entry]:
    """Return the entries of *absent* devices to keep, by UUID; *places*: PCI addresses in use.

    A device without a fault is forgotten when it is gone, after a day if it has recovered before,
    as on the node. A device with a fault is kept, as it may come back with it. If there are too
    many, those without a fault go first, then those that left first. A device that may only be
    out of reach is the last.
    """
    kept = {uuid: entry for uuid, entry in absent.items() if not _is_over(entry, now)}

    def worth(uuid: str) -> tuple[bool, bool, float]:
        entry = kept[uuid]
        out_of_reach = not entry.gone and entry.pci_bus_id not in places
        return out_of_reach, bool(entry.condition.faults), entry.left

    surplus = sorted(kept, key=worth)[: max(0, len(kept) - MOST_ABSENT)]
    for uuid in surplus:
        del kept[uuid]
    return kept


def _is_over(entry: Entry, now: float) -> bool:
    if not entry.gone or entry.condition.faults:
        return False
    return not entry.condition.recoveries or now - entry.left >= FORGET_AFTER


def counted(counts: XidCounts, uuid: str, xid: int, at: float) -> XidCounts:
    """Return the counts after an Xid; *at* is its Unix time.

    If there are too many, the count of the Xid that has not been seen for the longest time goes.
    """
    known = counts.get((uuid, xid))
    sources = known.sources if known else {}
    count = XidCount(uuid, xid, known.count + 1 if known else 1, at, sources)
    after = {**counts, (uuid, xid): count}
    if len(after) > MOST_XIDS:
        del after[min(counts, key=lambda key: counts[key].last)]
    return after


def sourced(counts: XidCounts, uuid: str, xid: int, source: str) -> XidCounts:
    """Return the counts after it is certain who told of an Xid."""
    known = counts.get((uuid, xid))
    if known is None:
        return counts  # it has been forgotten
    sources = {**known.sources, source: known.sources.get(source, 0) + 1}
    return {**counts, (uuid, xid): msgspec.structs.replace(known, sources=sources)}
