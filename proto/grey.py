"""Grey failures: a GPU works, but worse than it should, and no event tells of it."""

import enum

import msgspec

from proto.reasons import Reason, ReasonKind


class GreyRule(enum.StrEnum):
    """What to do about a grey failure."""

    REPORT = "report"
    """Show it in metrics, status and log, and hand the GPU out all the same."""
    UNHEALTHY = "unhealthy"
    """Make the GPU Unhealthy too, until the failure is over."""


class GreySettings(msgspec.Struct, frozen=True):
    """Which grey failures make a GPU Unhealthy, and how long each must last."""

    unhealthy: frozenset[ReasonKind] = frozenset()
    after: float = 60.0
    """Seconds for which a failure must be seen before it counts, and not be seen before it ends."""


class GreyFailure(msgspec.Struct, frozen=True, order=True):
    """A grey failure of a GPU, whether or not it makes the GPU Unhealthy."""

    uuid: str
    reason: Reason
