"""Decides when the node's labels are written, and when the file with them expires."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from proto.backoff import delay

INTERVALS = 3
"""After so many intervals without a new one, NFD ignores our file."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is written."""

    labels: Mapping[str, str]
    gpus: tuple[Mapping[str, str], ...] = ()
    """Raw facts of each GPU, for rules of NFD."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an output may be used, in seconds."""

    gap: float
    """Between two writes, at least."""
    renewal: float
    """After which the output is looked at, or written again, without a change; 0: never."""


API = Pace(gap=10.0, renewal=300.0)
"""Of the outputs that use the API server: it serves all nodes of the cluster."""

FILE_GAP = 1.0
"""Seconds between two writes of the file: on this node only, but on a disk."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What became of the attempts so far; times are on the caller's clock."""

    done: Content | None = None
    """What the last attempt that went well was about."""
    at: float = -math.inf
    """When that was."""
    wrote: float = -math.inf
    """When something was written last."""
    failures: int = 0
    """In a row."""
    retry: float = -math.inf
    """Before this time no attempt is made, because the last one failed."""

    def went_well(self, content: Content, now: float, *, wrote: bool) -> "Progress":
        """Return the progress after an attempt that went well; it *wrote*, or found it right."""
        return Progress(content, now, now if wrote else self.wrote)

    def failed(self, now: float, chance: float) -> "Progress":
        """Return the progress after a failure; *chance* (0 to 1) is random."""
        failures = self.failures + 1
        return replace(self, failures=failures, retry=now + delay(failures, chance))


def due(pace: Pace, progress: Progress, wanted: Content | None) -> float:
    """Return when to make the next attempt with what is *wanted*; infinite: not before it changes.

    A change is written at once, unless the last write is younger than `gap`: then it waits for the
    rest of it, so that labels that flap cost little.
    """
    if wanted is None:
        return math.inf
    soonest = max(progress.wrote + pace.gap, progress.retry)
    if wanted != progress.done or progress.failures:
        return soonest
    return max(soonest, progress.at + pace.renewal) if pace.renewal else math.inf


def expiry(interval: float, wall: float) -> float | None:
    """Return when a file that is written at *wall* expires, as unix time; None: never."""
    return wall + INTERVALS * interval if interval else None
