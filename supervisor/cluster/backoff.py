"""Decides when to retry a request to the API server, and what to log."""

import random

from loguru import logger

FIRST, LAST = 1.0, 60.0
"""Seconds between attempts: the first and the longest; they double."""


def delay(failures: int, chance: float) -> float:
    """Return the seconds until the next attempt; *chance* (0 to 1) is random.

    Without it all nodes of a cluster would retry at the same moment after an outage.
    """
    return min(LAST, FIRST * 2.0 ** min(failures - 1, 30)) * (0.5 + chance / 2)


class Backoff:
    """Counts failures in a row; logs one line when the reason changes or the failures end."""

    def __init__(self, use: str) -> None:
        """Begin without a failure; *use* is what the API is used for."""
        self._use = use
        self._failures = 0
        self._reason = ""

    def failed(self, reason: str) -> float:
        """Note a failure; return the seconds until the next attempt."""
        if reason != self._reason:
            logger.warning("cannot use the Kubernetes API", use=self._use, reason=reason)
        self._reason = reason
        self._failures += 1
        return delay(self._failures, random.random())  # noqa: S311 - no secret

    def went_well(self) -> None:
        """Note a success."""
        if self._reason:
            logger.info("the Kubernetes API answers again", use=self._use)
        self._failures, self._reason = 0, ""
