"""When the usage of a GPU is sampled, and the newest sample."""

import functools
import math
from collections.abc import Callable

from health.nvml import Nvml
from health.usage import THOROUGHLY, Known, Sampled, sample
from proto.messages import Gpu
from proto.usage import DeviceUsage

SHARE = 10
"""A GPU is sampled for at most this part of the time: one that is slow is sampled less often."""

LONGEST_PAUSE = 60.0
"""Seconds until the next sample, even after a call that took very long."""

KEPT = 3
"""How many samples may be missed until the last one is no longer shown."""


class Sampling:
    """Decides when to sample one GPU, and keeps the result."""

    def __init__(self, interval: float, thoroughly: float = THOROUGHLY) -> None:
        """Sample each *interval* seconds, 0: never; what changes seldom each *thoroughly*."""
        self._thoroughly = min(thoroughly, THOROUGHLY)
        self.due_at = 0.0 if interval else math.inf
        """When the next sample is due."""
        self._interval = interval
        self._known = Known()
        self._newest: Sampled | None = None

    def job(self, handle: object, gpu: Gpu, now: float) -> Callable[[Nvml], Sampled]:
        """Return the job for the lane, and note that it is under way."""
        self.due_at = now + self._interval
        known, thoroughly = self._known, self._thoroughly
        return functools.partial(sample, handle=handle, gpu=gpu, known=known, thoroughly=thoroughly)

    def take(self, sampled: Sampled) -> None:
        """Keep a sample."""
        self._newest, self._known = sampled, sampled.known
        self.due_at = max(self.due_at, sampled.began + self._pause(sampled))

    def forget(self) -> None:
        """Drop what is known: the GPU has failed a check, and may be another after a reset."""
        self._newest, self._known = None, Known()

    def devices(self, now: float) -> tuple[DeviceUsage, ...]:
        """Return the newest sample, unless it is old."""
        newest = self._newest
        if newest is None:
            return ()
        each = max(self._interval, self._pause(newest))
        return newest.devices if now - newest.began <= KEPT * each else ()

    def _pause(self, sampled: Sampled) -> float:
        return min(SHARE * sampled.seconds, sampled.seconds + LONGEST_PAUSE)
