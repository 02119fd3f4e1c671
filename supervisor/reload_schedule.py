"""Decide when to read the configuration again, however often somebody asks for it."""

import msgspec
from msgspec.structs import replace

EVERY = 1.0
"""Seconds from the beginning of a reading to the next one, at least; one that takes long is also
followed by a pause of its length, so that reading takes half a core at most."""

SETTLES_WITHIN = 10.0
"""Seconds after which a change of the settings counts as settled: a hanging driver, for example,
must not keep the operator from changing them."""


class Schedule(msgspec.Struct, frozen=True):
    """What was asked for, and what was done."""

    asked: bool = False
    """Whether the configuration is to be read again."""
    urgent: bool = False
    """Whether the start waits for it, so it waits for nothing but the end of another reading."""
    began: float = 0.0
    """When the last reading began."""
    again: float = 0.0
    """When the next reading may begin."""
    applied: float | None = None
    """When the settings last changed; None: they are those of the start."""

    def due(self, now: float, *, settled: bool) -> bool:
        """Return whether to read now; *settled*: whether the last change has taken effect."""
        if not self.asked or self.urgent:
            return self.asked
        if now < self.again:
            return False
        return settled or self.applied is None or now >= self.applied + SETTLES_WITHIN

    def deadline(self, now: float) -> float | None:
        """Return the next time at which `due` may change by itself; None: it will not."""
        times = [self.again, *([] if self.applied is None else [self.applied + SETTLES_WITHIN])]
        return min((time for time in times if time > now), default=None) if self.asked else None

    def begun(self, now: float) -> "Schedule":
        """Return the schedule after a reading began: what is asked from now on needs another."""
        return replace(self, asked=False, urgent=False, began=now)

    def done(self, now: float, *, changed: bool) -> "Schedule":
        """Return the schedule after a reading ended, which *changed* the settings or did not."""
        again = max(self.began + EVERY, now + (now - self.began))
        return replace(self, again=again, applied=now if changed else self.applied)

    def failed(self, now: float) -> "Schedule":
        """Return the schedule after a reading could not begin: try again later."""
        return replace(self, asked=True, again=now + EVERY)
