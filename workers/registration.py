"""When to register with the kubelet: facts in, a reason out."""

from dataclasses import dataclass

STREAMLESS = 5.0
"""Seconds that a registered resource may be without a stream; a kubelet dials in milliseconds."""

FIRST_DELAY = 0.02
LAST_DELAY = 10.0
"""Seconds between attempts that fail, doubling; a new kubelet cuts the wait short."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the worker stands with the kubelet."""

    registered: bool
    """The last registration went well, and nothing has called it into question since."""
    intact: bool
    """Our own socket is there and ours."""
    streams: int
    streamed: float
    """When there last was a stream, or a registration."""


def why(standing: Standing, now: float) -> str:
    """Return why to register now; empty when all is well."""
    if not standing.registered:
        return "not registered with this kubelet"
    if not standing.intact:
        return "own socket gone"
    if not standing.streams and now - standing.streamed > STREAMLESS:
        return "no stream"
    return ""


def delay(failures: int) -> float:
    """Return the seconds to wait after that many failures in a row, from 1."""
    return min(FIRST_DELAY * 2.0 ** min(failures - 1, 30), LAST_DELAY)
