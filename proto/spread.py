"""When a node does what all nodes of a cluster do regularly: each at a time of its own."""

import hashlib
import math


def place_of(name: str) -> float:
    """Return a fraction (0 to below 1): always the same for *name*, even over many names."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32


def next_turn(after: float, period: float, place: float) -> float:
    """Return the first turn later than *after* of the node at this *place* (0 to 1).

    It has one turn in each *period* (seconds). So nodes that all begin at once do not go on so.
    """
    first = place * period
    return first + (math.floor((after - first) / period) + 1) * period
