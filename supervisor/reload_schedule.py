"""Decide when to read the configuration again, however often somebody asks for it."""

from dataclasses import dataclass, replace

EVERY = 1.0
"""Seconds from the end of a reading to the next one."""

SETTLES_WITHIN = 10.0
"""Seconds after which a change of the settings counts as settled: a hanging driver, for example,
must not keep the operator from changing them."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """What was asked for, and what was done."""

    asked: bool = False
    """Whether the configuration is to be read again."""
    urgent: bool = False
    """Whether the start waits for it, so it waits for nothing but the end of another reading."""
    ended: float | None = None
    """When the last reading ended; None: none has."""
    applied: float | None = None
    """When the settings last changed; None: they are those of the start."""

    def due(self, now: float, *, settled: bool) -> bool:
        """Return whether to read now; *settled*: whether the last change has taken effect."""
        if not self.asked or self.urgent:
            return self.asked
        if self.ended is not None and now < self.ended + EVERY:
            return False
        return settled or self.applied is None or now >= self.applied + SETTLES_WITHIN

    def deadline(self, now: float) -> float | None:
        """Return the next time at which `due` may change by itself; None: it will not."""
        times = [self.ended and self.ended + EVERY, self.applied and self.applied + SETTLES_WITHIN]
        later = [time for time in times if time is not None and time > now]
        return min(later, default=None) if self.asked else None

    def begun(self) -> "Schedule":
        """Return the schedule after a reading began: what is asked from now on needs another."""
        return replace(self, asked=False, urgent=False)

    def done(self, now: float, *, changed: bool) -> "Schedule":
        """Return the schedule after a reading ended, which *changed* the settings or did not."""
        return replace(self, ended=now, applied=now if changed else self.applied)
