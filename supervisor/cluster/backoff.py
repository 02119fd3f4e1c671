"""One thing that is asked of a server again and again: when to ask next, and what to log of it."""

import random

from loguru import logger

FIRST, LAST = 1.0, 60.0
"""Seconds between attempts, doubling."""


def delay(failures: int, chance: float) -> float:
    """Return the seconds until the next attempt; *chance* (0 to 1) keeps nodes from keeping step.

    After an outage a thousand nodes would otherwise ask in the same moment.
    """
    return min(LAST, FIRST * 2.0 ** min(failures - 1, 30)) * (0.5 + chance / 2)


class Backoff:
    """How often in a row it failed, and why; each change of that is one line in the log."""

    def __init__(self, use: str) -> None:
        """Begin without a failure; *use* says what for."""
        self._use = use
        self._failures = 0
        self._reason = ""

    def failed(self, reason: str) -> float:
        """Take note of a failure; return the seconds until the next attempt."""
        if reason != self._reason:
            logger.warning("cannot use the Kubernetes API", use=self._use, reason=reason)
        self._reason = reason
        self._failures += 1
        return delay(self._failures, random.random())  # noqa: S311 - no secret

    def went_well(self) -> None:
        """Take note of a success."""
        if self._reason:
            logger.info("the Kubernetes API answers again", use=self._use)
        self._failures, self._reason = 0, ""
