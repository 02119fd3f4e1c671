"""Decides when to write again what must be kept true at some place, and when to retry."""

import math
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from proto.backoff import LAST, delay
from proto.spread import next_turn

Content = TypeVar("Content")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a place may be used, in seconds."""

    gap: float
    """Between two writes, at least."""
    renewal: float
    """After which the place is looked at, or written again, without a change; 0: never."""
    place: float | None = None
    """Of this node among all (0 to 1), for a server that serves them all: once in each renewal it
    is this node's turn. None: the renewal counts from the last success."""
    longest_retry: float = LAST
    """Between two attempts that fail, if nothing has changed, so nobody waits for them."""


@dataclass(frozen=True, slots=True)
class Progress(Generic[Content]):
    """What became of the attempts so far; times are on the caller's clock."""

    done: Content | None = None
    """What the last attempt that went well was about."""
    at: float = -math.inf
    """When that was."""
    wrote: float = -math.inf
    """When something was written last."""
    failures: int = 0
    """In a row."""
    failed_at: float = -math.inf
    """When the last of them was."""
    chance: float = 0.0
    """Drawn at the last failure, so that nodes do not retry all at once."""

    def went_well(self, content: Content, now: float, *, wrote: bool) -> "Progress[Content]":
        """Return the progress after an attempt that went well; it *wrote*, or found it right."""
        return Progress(content, now, now if wrote else self.wrote)

    def failed(self, now: float, chance: float) -> "Progress[Content]":
        """Return the progress after a failure; *chance* (0 to 1) is random."""
        return replace(self, failures=self.failures + 1, failed_at=now, chance=chance)

    def stale(self) -> "Progress[Content]":
        """Return the progress after which it is time for a renewal."""
        return replace(self, at=-math.inf)


def due(pace: Pace, progress: Progress[Content], wanted: Content | None) -> float:
    """Return when to make the next attempt with what is *wanted*; infinite: not before it changes.

    A change is written at once, unless the last write is younger than `gap`: then it waits for the
    rest of it, so that what flaps costs little. Where nothing has changed, a retry has time.
    """
    if wanted is None:
        return math.inf
    changed = wanted != progress.done
    soonest = progress.wrote + pace.gap
    if progress.failures:
        last = LAST if changed else pace.longest_retry
        return max(soonest, progress.failed_at + delay(progress.failures, progress.chance, last))
    if changed:
        return soonest
    return max(soonest, _renewal(pace, progress.at)) if pace.renewal else math.inf


def _renewal(pace: Pace, at: float) -> float:
    if pace.place is None:
        return at + pace.renewal
    return next_turn(at, pace.renewal, pace.place)
