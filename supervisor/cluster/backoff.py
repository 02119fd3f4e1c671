"""Decides when to retry a request to the API server, and what to log."""

import random

from loguru import logger

from proto.backoff import delay, rejoin


class Backoff:
    """Counts failures in a row; logs one line when the reason changes or the failures end."""

    def __init__(self, use: str) -> None:
        """Begin without a failure; *use* is what the API is used for."""
        self._use = use
        self._failures = 0
        self._reason = ""
        self._steady = False
        """Whether it has worked for long."""

    def failed(self, reason: str) -> float:
        """Note a failure; return the seconds until the next attempt."""
        if reason != self._reason:
            logger.warning("cannot use the Kubernetes API", use=self._use, reason=reason)
        self._reason = reason
        self._failures += 1
        pause = delay(self._failures, random.random())  # noqa: S311 - no secret
        if self._steady:
            pause = max(pause, rejoin(random.random()))  # noqa: S311 - no secret
        self._steady = False
        return pause

    def went_well(self) -> None:
        """Note a success."""
        if self._reason:
            logger.info("the Kubernetes API answers again", use=self._use)
        self._failures, self._reason = 0, ""

    def is_steady(self) -> None:
        """Note that a request that lasts, such as a watch, has worked for long."""
        self.went_well()
        self._steady = True
