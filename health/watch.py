"""Watch one GPU for events, and decide how to go on after the wait for them has failed."""

import contextlib
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from health.lane import error_in_words
from health.nvml import Code, Hint, Nvml, NvmlError, XidEvent
from proto.reasons import Reason, ReasonKind

FIRST_WAIT = 500
NEXT_WAITS = 5000
"""Milliseconds of the first wait, which shows early whether waits succeed, and of all others."""

AGAIN = (0.1, 1.0, 5.0, 30.0)
"""Seconds until the next attempt, by the number of failures in a row; the last value repeats."""

UNSUPPORTED = frozenset({Code.NOT_SUPPORTED, Code.FUNCTION_NOT_FOUND})
"""Answers that mean that a GPU or driver has no events, which is no fault."""

BLIND = Reason(ReasonKind.UNWATCHED)
"""Waits fail; ends as soon as one succeeds."""


class Registered:
    """Reports that the GPU is registered: from now on, no event is missed."""


class Watching:
    """Reports that the first wait returned without an error."""


Sight = XidEvent | Hint | Registered | Watching


class Ended(msgspec.Struct, frozen=True):
    """The watch has failed."""

    error: NvmlError
    registered: bool
    """Whether the registration had succeeded."""
    lost: bool
    """Whether a call on the GPU itself showed that the driver has lost it."""
    given_away: bool = False
    """Whether the kernel has given the GPU to another driver, which is no loss."""


def watch(
    nvml: Nvml,
    handle: object,
    tell: Callable[[Sight], None],
    given_away: Callable[[], bool] = lambda: False,
) -> Ended:
    """Register a GPU on an event set of its own and *tell* of its events, until a call fails.

    *given_away* returns whether the kernel has given the GPU to another driver.
    """
    registered, events = False, None
    try:
        events = nvml.event_set()
        nvml.register(handle, events)
        registered = True
        tell(Registered())
        if (sight := nvml.wait(events, FIRST_WAIT)) is not None:
            tell(sight)
        tell(Watching())
        while True:
            if (sight := nvml.wait(events, NEXT_WAITS)) is not None:
                tell(sight)
    except NvmlError as error:
        if events is not None:
            with contextlib.suppress(NvmlError):
                nvml.free(events)
        if given_away():
            return Ended(error, registered, lost=False, given_away=True)
        return Ended(error, registered, error.code not in UNSUPPORTED and nvml.lost(handle))


def after_error(error: Exception) -> Ended:
    """Return the end of a watch that an *error* of no driver has ended."""
    return Ended(
        NvmlError("nvmlEventSetWait", Code.UNKNOWN, error_in_words(error)), True, lost=False
    )


class Watch(msgspec.Struct, frozen=True):
    """What is known about the watch of one GPU."""

    again_at: float = 0.0
    """When to start it, if it does not run."""
    failures: int = 0
    """How often it failed in a row."""
    error: str = ""
    """The last error; empty after a success."""
    blind: Reason | None = None
    """Why the GPU is not watched; None: it is, or is about to be."""


def after_success() -> Watch:
    """Return the watch after a wait returned without an error."""
    return Watch()


def after_end(before: Watch, ended: Ended, now: float) -> Watch:
    """Return the watch after it has failed; a GPU is unwatched after the second failed wait."""
    failures = before.failures + 1
    blind = before.blind
    if ended.given_away:
        return replace(before, again_at=now + AGAIN[-1])
    if not ended.lost and not ended.registered and ended.error.call != "nvmlEventSetCreate":
        blind = Reason(ReasonKind.UNWATCHED, f"NVML error {ended.error.code}")
    elif not ended.lost and failures > 1:
        blind = blind or BLIND
    wait = 0.0 if ended.lost else AGAIN[min(failures, len(AGAIN)) - 1]
    return replace(
        before, again_at=now + wait, failures=failures, error=str(ended.error), blind=blind
    )
