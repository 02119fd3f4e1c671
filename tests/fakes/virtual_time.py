"""An event loop whose clock jumps to the next timer, for stories of hours that run in seconds.

Sockets on loopback work as usual: time stands still while data is on its way.
"""

import asyncio
import contextlib
import math
import selectors
import time
from collections.abc import Coroutine, Iterator
from typing import Any

STEP = 0.2
"""Seconds by which the clock moves at least, so that timers close to each other fire together."""

GRACE = 0.001
"""Real seconds in which data on loopback arrives: only then does the clock move."""


class _Clock(selectors.DefaultSelector):
    """A selector that does not wait: it moves the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; if nothing is, move the clock by *timeout* instead of waiting."""
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        ready = super().select(GRACE)
        if not ready:
            wait = 0.0 if timeout is None else timeout
            self.now = STEP * (math.floor((self.now + wait) / STEP + 1e-6) + 1)
        return ready


@contextlib.contextmanager
def _patched(clock: _Clock) -> Iterator[None]:
    real = time.monotonic
    time.monotonic = lambda: clock.now
    try:
        yield
    finally:
        time.monotonic = real


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run *story* to its end; `time.monotonic` is the clock that jumps, for the whole process."""
    clock = _Clock()
    with _patched(clock), asyncio.Runner(loop_factory=lambda: _loop(clock)) as runner:
        runner.run(story)


def _loop(clock: _Clock) -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(clock)
