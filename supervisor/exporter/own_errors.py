"""The log of the exporter's own errors while it answers requests."""

from loguru import logger

REPEATED = 60.0
"""Seconds after which the same error is logged again, with how often it happened meanwhile."""


class OwnErrors:
    """Logs each error once, and again after a while if it goes on."""

    def __init__(self) -> None:
        self._logged: dict[tuple[str, int], float] = {}
        """When an error of this type and place was last logged."""
        self._silent: dict[tuple[str, int], int] = {}

    def log(self, path: str, error: Exception, now: float) -> None:
        """Log the *error* of a request for *path*, with the place of the error in the code."""
        trace = error.__traceback__
        while trace and trace.tb_next:
            trace = trace.tb_next
        kind = (type(error).__name__, trace.tb_lineno if trace else 0)
        if kind in self._logged and now - self._logged[kind] < REPEATED:
            self._silent[kind] = self._silent.get(kind, 0) + 1
            return
        self._logged[kind] = now
        more = self._silent.pop(kind, 0)
        logger.opt(exception=error).error("cannot answer an HTTP request", path=path, more=more)
