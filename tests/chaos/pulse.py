"""Notice when the machine stands still: the service then does what is right after a silence."""

import asyncio
import time
from collections.abc import Callable

BEAT, LATE = 0.05, 0.5
"""Seconds between two beats, and by which a beat is late when the machine stood still."""


class Pulse:
    """A task of the runner that shows whether processes get the processor in time."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    @property
    def late(self) -> bool:
        """Whether the next beat is late."""
        return time.monotonic() - self._last > BEAT + LATE

    async def beat(self, when_late: Callable[[], None]) -> None:
        """Beat until cancelled, and call *when_late* after each beat that was late."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(BEAT)
            if self.late:
                when_late()
