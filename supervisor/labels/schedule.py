"""What is written of the node's labels, how often, and when the file with them expires."""

from collections.abc import Mapping
from dataclasses import dataclass

from proto.pace import Pace
from proto.spread import place_of

INTERVALS = 3
"""After so many intervals without a new one, NFD ignores our file."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is written."""

    labels: Mapping[str, str]
    gpus: tuple[Mapping[str, str], ...] = ()
    """Raw facts of each GPU, for rules of NFD."""


FILE_GAP = 1.0
"""Seconds between two writes of the file: on this node only, but on a disk."""


def api_pace(node: str) -> Pace:
    """Return the pace for *node* of an output that uses the API server, which serves all nodes."""
    return Pace(gap=10.0, renewal=300.0, place=place_of(node), longest_retry=300.0)


def expiry(interval: float, wall: float) -> float | None:
    """Return when a file that is written at *wall* expires, as unix time; None: never."""
    return wall + INTERVALS * interval if interval else None


CLOCK_MOVED = 5.0
"""Seconds by which somebody has set the clock, and did not only correct it."""


def clock_moved(then: float, now: float) -> bool:
    """Return whether the node's clock was set between two moments, so that an expiry is wrong.

    Each moment is what the wall clock was ahead of the monotonic one, which nobody can set.
    """
    return abs(now - then) > CLOCK_MOVED
