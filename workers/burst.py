"""Tells the exporter and the log about allocations: after the kubelet's answer, once for a burst.

A message to the exporter and a line in the log take longer than the answer itself.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable

from workers.device_log import Container, grouped, log_allocated

ANSWERED = 0.01
"""Seconds to wait before telling an allocation, so that the kubelet gets its answer first."""

EVERY = 0.25
"""Minimum seconds between two times of telling; only allocations in a burst wait for this."""

MOST = 256
"""Containers that may wait; a kubelet allocates for fewer in a second."""


def due(now: float, told: float) -> float:
    """Return when to tell an allocation of *now*; *told* is the last time of telling."""
    return max(now + ANSWERED, told + EVERY)


class Burst:
    """Collects what containers got, and tells it a few times a second."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        """Call *on_change* once each time, to send the exporter our state."""
        self._on_change = on_change
        self._waiting: list[Container] = []
        self._timer: asyncio.Handle | None = None
        """What tells the waiting ones; None: none wait."""
        self._told = -math.inf
        self._lines: deque[list[Container]] = deque()

    def add(self, containers: Iterable[Container]) -> None:
        """Tell soon what these *containers* got."""
        self._waiting.extend(containers)
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._timer = loop.call_at(due(loop.time(), self._told), self._tell)
        elif len(self._waiting) >= MOST:
            self._timer.cancel()
            self._timer = loop.call_soon(self._tell)

    def finish(self) -> None:
        """Tell everything that still waits, because the worker ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell()
        while self._lines:
            log_allocated(self._lines.popleft())

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer, self._told = None, loop.time()
        waiting, self._waiting = self._waiting, []
        self._on_change()
        if not self._lines:
            loop.call_soon(self._log)
        self._lines.extend(grouped(waiting))

    def _log(self) -> None:
        """Log one line in each turn of the loop, so that a call waits for one line at most."""
        if self._lines:
            log_allocated(self._lines.popleft())
        if self._lines:
            asyncio.get_running_loop().call_soon(self._log)
