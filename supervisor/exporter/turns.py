"""Work that may wait, a little in each turn of the loop: so whatever is urgent waits for little."""

import asyncio
from collections import deque
from collections.abc import Callable

Work = Callable[[], bool]
"""Does something; returns whether there was anything to do."""


class Turns:
    """A queue that is fair to all sources of work: each in turn has one piece of work done."""

    def __init__(self, at_once: int) -> None:
        """Do *at_once* pieces of work in a turn of the loop."""
        self._at_once = at_once
        self._queues: dict[str, deque[Work]] = {}

    def add(self, source: str, work: Work) -> None:
        """Have *work* done in one of the next turns of the loop."""
        if not self._queues:
            asyncio.get_running_loop().call_soon(self._go)
        self._queues.setdefault(source, deque()).append(work)

    async def mine(self, source: str) -> None:
        """Wait until it is the caller's turn."""
        turn = asyncio.get_running_loop().create_future()

        def begin() -> bool:
            if turn.done():
                return False  # the caller was cancelled meanwhile
            turn.set_result(None)
            return True

        self.add(source, begin)
        await turn

    def _go(self) -> None:
        left = self._at_once
        while self._queues and left:
            source, queue = next(iter(self._queues.items()))
            del self._queues[source]
            work = queue.popleft()
            if queue:
                self._queues[source] = queue  # behind all others
            left -= work()
        if self._queues:
            asyncio.get_running_loop().call_soon(self._go)
