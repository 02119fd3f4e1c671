"""Add up the calls of several threads."""

from collections.abc import Iterable

from health.nvml import Nvml
from proto.calls import CallStats


class Totals:
    """The calls of several threads together; they are added up only after a new call."""

    def __init__(self) -> None:
        self._counted: list[int] = []
        self._total: tuple[CallStats, ...] = ()

    def of(self, threads: Iterable[Nvml]) -> tuple[CallStats, ...]:
        """Return the calls of all *threads* so far."""
        threads = tuple(threads)
        # Before the calls: what a thread adds meanwhile is then counted the next time.
        counted = [thread.counted for thread in threads]
        if counted != self._counted:
            self._total = total(call for thread in threads for call in thread.stats())
            self._counted = counted
        return self._total


def total(stats: Iterable[CallStats]) -> tuple[CallStats, ...]:
    """Return the calls of all threads together."""
    found: dict[str, CallStats] = {}
    for call in stats:
        before = found.get(call.call)
        found[call.call] = call if before is None else _sum(before, call)
    return tuple(found.values())


def _sum(one: CallStats, other: CallStats) -> CallStats:
    errors = one.errors
    if other.errors:
        codes = errors | other.errors
        errors = {code: errors.get(code, 0) + other.errors.get(code, 0) for code in codes}
    return CallStats(one.call, one.count + other.count, one.seconds + other.seconds, errors)
