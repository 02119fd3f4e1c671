"""What the monitor tells of its own driver calls: how many, how long, which of them hang."""

import msgspec


class CallStats(msgspec.Struct, frozen=True):
    """The calls of one NVML function since the monitor started."""

    call: str
    count: int
    seconds: float
    """Total duration of all calls."""
    errors: dict[int, int] = {}
    """Failed calls by NVML error code; "not supported" and the like are not counted."""


class HangingCall(msgspec.Struct, frozen=True):
    """An NVML call that has not returned for `health.hangAfter`."""

    call: str
    index: int | None
    """The GPU's index; None: the call is not about one GPU."""
    uuid: str
    """Empty: unknown."""
    seconds: float
    """How long ago it should have returned."""


class LookTime(msgspec.Struct, frozen=True):
    """How long the newest health check of a GPU took, in seconds, and whether that is slow."""

    uuid: str
    seconds: float
    slow: bool = False
