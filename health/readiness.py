"""Decide whether CUDA can use a GPU that NVML describes well, from what a check found."""

from collections.abc import Set as AbstractSet

import msgspec

from proto.reasons import Reason, ReasonKind

NOT_JOINED = "not joined"
"""How the detail of the reason `fabric` begins for a GPU that has not joined its fabric."""


class Readiness(msgspec.Struct, frozen=True):
    """What a check found."""

    ailments: frozenset[Reason] = frozenset()
    unknown: frozenset[ReasonKind] = frozenset()
    """Reasons about which there was no answer: they stay as they were."""
    joining: str = ""
    """Why the GPU has not joined its NVLink fabric; empty: it has, or has none."""
    patience: float = 0.0
    """Seconds that it may take to join."""
    licensed: bool | None = None
    """Whether a virtual GPU has a licence; None: no answer, or it needs none."""


READY = Readiness()


def joining_since(before: float | None, found: Readiness, now: float) -> float | None:
    """Return since when a GPU has not joined its fabric; *before*: what was known of that."""
    if ReasonKind.FABRIC in found.unknown:
        return before
    return (now if before is None else before) if found.joining else None


def ailments(
    before: AbstractSet[Reason], found: Readiness, since: float | None, now: float
) -> frozenset[Reason]:
    """Return why the GPU is not ready; *before* are its problems until now, of all kinds."""
    kept = {reason for reason in before if reason.kind in found.unknown}
    late = found.joining and since is not None and now - since >= found.patience
    why = Reason(ReasonKind.FABRIC, f"{NOT_JOINED}: {found.joining}")
    fabric = {why} if late else set[Reason]()
    return found.ailments | kept | fabric
