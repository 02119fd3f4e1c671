"""Decide which Xids get a log line of their own, and which are only counted.

Xids are equal if GPU and number are the same. A row is a series of equal Xids with less than 10 s
between two of them. The first five of a row get a line each; the others get one line with their
count every 10 s. When a row has ended, nothing of it is kept.
"""

import math
from collections.abc import Mapping
from typing import Self

import msgspec
from msgspec.structs import replace

ONE_BY_ONE = 5
"""The number of Xids of a row that get a line each."""

PERIOD = 10.0
"""Seconds from the first Xid of a count to its line, and from the last Xid to the row's end."""

LIMIT = 1000
"""The number of rows that are kept at most; Xids of further rows get a line each."""

Key = tuple[str | None, int]
"""A GPU's UUID (None: unknown GPU) and an Xid."""


class Repeated(msgspec.Struct, frozen=True):
    """A count of equal Xids that got no line of their own."""

    uuid: str | None
    xid: int
    count: int
    seconds: int
    """The time since the first of them; more than 10 if the caller was late."""


class _Row(msgspec.Struct, frozen=True):
    """A series of equal Xids with less than 10 s between two of them."""

    logged: int
    """The number of Xids that got a line each."""
    last: float
    """The time of the last Xid."""
    counted: int = 0
    """The number of Xids that no line tells yet."""
    since: float = 0.0
    """The time of the first of these."""

    @property
    def deadline(self) -> float:
        """The time to log the count; if nothing is counted, the time to forget the row."""
        return (self.since if self.counted else self.last) + PERIOD


class XidLog(msgspec.Struct, frozen=True):
    """The rows that have not ended; all times are seconds of the monotonic clock."""

    rows: Mapping[Key, _Row] = msgspec.field(default_factory=dict)

    def after(self, uuid: str | None, xid: int, now: float) -> tuple[Self, bool]:
        """Return the state after an Xid of the GPU *uuid*, and whether it gets its own line."""
        key = (uuid, xid)
        row = self.rows.get(key)
        if row is None and len(self.rows) >= LIMIT:
            return self, True
        if row is None or (not row.counted and now >= row.deadline):
            return self._with(key, _Row(1, now)), True
        if row.logged < ONE_BY_ONE:
            return self._with(key, _Row(row.logged + 1, now)), True
        since = row.since if row.counted else now
        return self._with(key, _Row(row.logged, now, row.counted + 1, since)), False

    def is_told(self, uuid: str | None, xid: int) -> bool:
        """Return whether the last Xid of this kind got its own line."""
        row = self.rows.get((uuid, xid))
        return row is None or not row.counted

    def deadline(self) -> float:
        """Return the time to call `due`; infinity if there is nothing to wait for."""
        return min((row.deadline for row in self.rows.values()), default=math.inf)

    def due(self, now: float) -> tuple[Self, tuple[Repeated, ...]]:
        """Return the state after the counts whose 10 s are over are logged, and these counts."""
        if now < self.deadline():
            return self, ()
        late = {key: row for key, row in self.rows.items() if now >= row.deadline}
        logged = {key: replace(row, counted=0) for key, row in late.items()}
        rows = {key: row for key, row in {**self.rows, **logged}.items() if now < row.deadline}
        return replace(self, rows=rows), _repeated(late, now)

    def rest(self, now: float) -> tuple[Repeated, ...]:
        """Return all counts that are not logged yet; for the end of the process."""
        return _repeated(self.rows, now)

    def _with(self, key: Key, row: _Row) -> Self:
        return replace(self, rows={**self.rows, key: row})


def _repeated(rows: Mapping[Key, _Row], now: float) -> tuple[Repeated, ...]:
    return tuple(
        Repeated(uuid, xid, row.counted, round(now - row.since))
        for (uuid, xid), row in rows.items()
        if row.counted
    )
