"""Take an Xid that both NVML and the kernel log tell for one, whichever is first.

Two reports are of one Xid if GPU and Xid are the same, the sources differ, and less than 2 s are
between them. Each report has at most one counterpart, so as many Xids count as the source that
told more of them has told.
"""

import enum
import math
from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

WINDOW = 2.0
"""Seconds between the reports of one Xid; normally there are a few milliseconds."""

MOST_WAITING = 1000
"""Reports that can wait for their counterpart; further ones are taken for Xids of one source."""

Key = tuple[str, int]
"""A GPU's UUID and an Xid."""


class ToldBy(enum.StrEnum):
    """Who told of an Xid."""

    NVML = "nvml"
    KERNEL = "kernel"
    BOTH = "both"


class Heard(msgspec.Struct, frozen=True):
    """What a report means."""

    news: bool
    """Whether it is the first of its Xid."""
    settled: tuple[tuple[Key, ToldBy], ...] = ()
    """Xids for which it is certain by now who told of them."""


class _Waiting(msgspec.Struct, frozen=True):
    """The reports of one source, which wait for those of the other one."""

    source: ToldBy
    times: tuple[float, ...]


class Witness(msgspec.Struct, frozen=True):
    """The reports that wait; all times are seconds of the monotonic clock."""

    rows: Mapping[Key, _Waiting] = msgspec.field(default_factory=dict)
    waiting: int = 0

    def after(self, key: Key, source: ToldBy, now: float) -> tuple["Witness", Heard]:
        """Return the state after a report of NVML or of the kernel, and what the report means."""
        fresh, settled = self.due(now)
        row = fresh.rows.get(key)
        if row and row.source is not source:
            return _with(fresh, key, replace(row, times=row.times[1:])), Heard(
                news=False, settled=(*settled, (key, ToldBy.BOTH))
            )
        if fresh.waiting >= MOST_WAITING:
            return fresh, Heard(news=True, settled=(*settled, (key, source)))
        times = (*row.times, now) if row else (now,)
        return _with(fresh, key, _Waiting(source, times)), Heard(news=True, settled=settled)

    def waits(self, key: Key, source: ToldBy) -> bool:
        """Return whether a report of *source* still waits for its counterpart."""
        row = self.rows.get(key)
        return row is not None and row.source is source

    def deadline(self) -> float:
        """Return the time to call `due`; infinity if nothing waits."""
        return min((row.times[0] for row in self.rows.values()), default=math.inf) + WINDOW

    def due(self, now: float) -> tuple["Witness", tuple[tuple[Key, ToldBy], ...]]:
        """Return the state without the reports that waited long enough, and these reports."""
        if now < self.deadline():
            return self, ()
        after: Witness = self
        settled = list[tuple[Key, ToldBy]]()
        for key, row in self.rows.items():
            late = [at for at in row.times if now >= at + WINDOW]
            if late:
                after = _with(after, key, replace(row, times=row.times[len(late) :]))
                settled += [(key, row.source)] * len(late)
        return after, tuple(settled)


def _with(state: Witness, key: Key, row: _Waiting) -> Witness:
    before = state.rows.get(key)
    rows = {**state.rows, key: row}
    if not row.times:
        del rows[key]
    waiting = state.waiting + len(row.times) - (len(before.times) if before else 0)
    return replace(state, rows=rows, waiting=waiting)
