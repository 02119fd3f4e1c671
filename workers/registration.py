"""Decides when to register with the kubelet, and how long to wait after a failure."""

import msgspec

STREAMLESS = 5.0
"""Seconds without a stream after which to register again; a kubelet connects in milliseconds."""

FIRST_DELAY = 0.02
LAST_DELAY = 10.0
"""Seconds to wait after the first and after many failures; a new kubelet ends the wait."""


class Standing(msgspec.Struct, frozen=True):
    """The facts that decide whether to register."""

    registered: bool
    """Whether the newest kubelet accepted our registration."""
    intact: bool
    """Whether our own socket still exists and is ours."""
    streams: int
    streamed: float
    """Time of the last open stream or registration."""


def why(standing: Standing, now: float) -> str:
    """Return why to register now; empty if there is no need to."""
    if not standing.registered:
        return "first registration with this kubelet"
    if not standing.intact:
        return "the worker's own socket was deleted or replaced"
    if not standing.streams and now - standing.streamed > STREAMLESS:
        return "the kubelet opened no ListAndWatch stream"
    return ""


def delay(failures: int) -> float:
    """Return the seconds to wait after this many *failures* in a row, 1 or more."""
    return min(FIRST_DELAY * 2.0 ** min(failures - 1, 30), LAST_DELAY)
