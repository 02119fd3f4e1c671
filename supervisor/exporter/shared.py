"""Bodies of answers that take long to make: they are made once a second at most, for all clients.

So the number of clients, and of their requests, does not matter.
"""

import gzip
import time
from collections.abc import Callable
from dataclasses import dataclass

KEPT = 1.0
"""Least number of seconds for which a body is kept."""

WORK = 0.05
"""Most of the time that may be spent on making the same body again and again."""

FASTEST_GZIP = 1


@dataclass(slots=True)
class Made:
    """A body, and what was needed to make it."""

    body: bytes
    at: float
    seconds: float
    packed: bytes = b""
    """The body with gzip; empty until someone asks for it."""

    def is_old(self, now: float) -> bool:
        """Return whether the body has to be made again at *now*."""
        return now - self.at >= max(KEPT, self.seconds / WORK)


class Shared:
    """Keeps the newest body of each kind."""

    def __init__(self) -> None:
        self._made: dict[str, Made] = {}

    def body(self, kind: str, make: Callable[[], bytes], *, fresh: bool = False) -> Made:
        """Return the body of a *kind*, from *make* if the last one is too old, or if *fresh*."""
        now = time.monotonic()
        made = self._made.get(kind)
        if made is None or fresh or made.is_old(now):
            body = make()
            made = self._made[kind] = Made(body, now, time.monotonic() - now)
        return made


def packed(made: Made) -> bytes:
    """Return the body with gzip."""
    made.packed = made.packed or gzip.compress(made.body, FASTEST_GZIP)
    return made.packed
