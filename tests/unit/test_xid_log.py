"""Which Xids get a log line of their own, and which are counted, when the driver repeats them."""

import itertools

import hypothesis.strategies as st
import pytest
from hypothesis import given

from health.xid_log import LIMIT, ONE_BY_ONE, PERIOD, Repeated, XidLog

Lines = list[tuple[float, int]]
"""When a line was logged, and how many Xids it stands for."""

Key = tuple[str | None, int]
Life = list[tuple[float, Key]]
"""Xids, each with the seconds since the one before."""

GPUS: tuple[str | None, ...] = ("A", "B", None)
CODES = (31, 79)
STEPS = st.sampled_from([0.0, 0.0, 0.001, 0.5, 1.0, 3.0, 9.5, PERIOD, 10.5, 25.0])
XIDS = st.tuples(st.sampled_from(GPUS), st.sampled_from(CODES))
BURSTS = st.tuples(STEPS, XIDS, st.integers(1, 12)).map(
    lambda burst: [(burst[0], burst[1])] + [(0.001, burst[1])] * (burst[2] - 1)
)
LIVES = st.lists(BURSTS, max_size=15).map(
    lambda bursts: list(itertools.chain.from_iterable(bursts))
)


class Monitor:
    """Calls the log as the monitor's loop does, and keeps the lines by GPU and Xid."""

    def __init__(self) -> None:
        self.log = XidLog()
        self.lines: dict[Key, Lines] = {}

    def meet(self, uuid: str | None, xid: int, now: float) -> None:
        """Let an Xid come, which may be before the loop looks at its deadlines."""
        self.log, by_itself = self.log.after(uuid, xid, now)
        if by_itself:
            self.lines.setdefault((uuid, xid), []).append((now, 1))

    def sleep_until(self, now: float) -> None:
        """Wake up at each deadline until *now*."""
        while (deadline := self.log.deadline()) <= now:
            self.look(deadline)

    def look(self, now: float) -> None:
        """Log what is due."""
        self.log, repeated = self.log.due(now)
        self._log(repeated, now)

    def end(self, now: float) -> None:
        """Log the counts that are left."""
        self._log(self.log.rest(now), now)

    def _log(self, repeated: tuple[Repeated, ...], now: float) -> None:
        for seen in repeated:
            self.lines.setdefault((seen.uuid, seen.xid), []).append((now, seen.count))


STORMS = {
    "one": ([0.0], [(0.0, 1)]),
    "five": ([0.0, 0.1, 0.2, 0.3, 0.4], [(0.0, 1), (0.1, 1), (0.2, 1), (0.3, 1), (0.4, 1)]),
    "a thousand in a second": ([0.0] * 5 + [1.0] * 995, [*[(0.0, 1)] * 5, (11.0, 995)]),
    "a count covers ten seconds from its first Xid": (
        [0.0] * 5 + [1.0, 5.0, 10.5, 11.5, 12.0],
        [*[(0.0, 1)] * 5, (11.0, 3), (21.5, 2)],
    ),
    "ten seconds without it end the row": (
        [0.0] * 6 + [10.0],
        [*[(0.0, 1)] * 5, (10.0, 1), (10.0, 1)],
    ),
    "a row goes on when it is slow": (
        [0.0, 9.0, 18.0, 27.0, 36.0, 45.0],
        [(0.0, 1), (9.0, 1), (18.0, 1), (27.0, 1), (36.0, 1), (55.0, 1)],
    ),
    "rare ones are never counted": (
        [20.0 * n for n in range(8)],
        [(20.0 * n, 1) for n in range(8)],
    ),
}


@pytest.mark.parametrize(("times", "lines"), STORMS.values(), ids=STORMS.keys())
def test_equal_xids(times: list[float], lines: Lines) -> None:
    """The first five in a row are logged one by one, all others in a line for each 10 s."""
    monitor = Monitor()
    for now in times:
        monitor.sleep_until(now)
        monitor.meet("A", 31, now)
    monitor.sleep_until(1000.0)
    assert monitor.lines == {("A", 31): lines}
    assert monitor.log == XidLog()


def test_other_gpus_and_other_xids_have_rows_of_their_own() -> None:
    """An Xid of another GPU, or another Xid of the same GPU, neither ends a row nor is in it."""
    monitor = Monitor()
    for now in range(9):
        for uuid in GPUS:
            for xid in CODES:
                monitor.meet(uuid, xid, now)
    monitor.sleep_until(100.0)
    own = [*((float(now), 1) for now in range(ONE_BY_ONE)), (15.0, 4)]
    assert monitor.lines == {(uuid, xid): own for uuid in GPUS for xid in CODES}


def test_a_late_look_counts_all_and_says_for_how_long() -> None:
    """When the loop was late, the count holds every Xid, and the seconds are the true ones."""
    log = XidLog()
    for now in (0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 14.0):
        log, _ = log.after("A", 31, now)
    log, repeated = log.due(26.0)
    assert (log, repeated) == (XidLog(), (Repeated("A", 31, count=2, seconds=25),))


def test_the_end_of_the_process_leaves_no_count_unlogged() -> None:
    """The rest is what was counted, but not logged; after it is logged, there is none."""
    log = XidLog()
    for now in range(8):
        log, _ = log.after("A", 31, now)
    assert log.rest(9.0) == (Repeated("A", 31, count=3, seconds=4),)
    log, _ = log.due(15.0)
    assert log.rest(15.0) == ()


def test_very_many_different_xids() -> None:
    """The memory has a limit; an Xid beyond it is logged each time."""
    log = XidLog()
    for xid in range(2 * LIMIT):
        log, by_itself = log.after("A", xid, 0.0)
        assert by_itself
    assert len(log.rows) == LIMIT
    answers = []
    for _ in range(2 * ONE_BY_ONE):
        log, by_itself = log.after("B", 31, 1.0)
        answers.append(by_itself)
    assert (answers, log.due(PERIOD)) == ([True] * 2 * ONE_BY_ONE, (XidLog(), ()))


@given(life=LIVES, late=st.booleans())
def test_every_xid_is_logged_exactly_once(life: Life, *, late: bool) -> None:
    """The counts of all lines add up to the Xids that came, also when the loop is late."""
    monitor, now, came = Monitor(), 0.0, dict[Key, int]()
    for step, (uuid, xid) in life:
        now += step
        if late:
            monitor.meet(uuid, xid, now)
            monitor.look(now)
        else:
            monitor.sleep_until(now)
            monitor.meet(uuid, xid, now)
        came[uuid, xid] = came.get((uuid, xid), 0) + 1
    monitor.end(now)
    assert {key: sum(count for _, count in lines) for key, lines in monitor.lines.items()} == came


@given(LIVES)
def test_a_storm_is_few_lines_and_leaves_nothing(life: Life) -> None:
    """An Xid has at most six lines in any 10 s, and is forgotten 20 s after it came last."""
    monitor, now = Monitor(), 0.0
    for step, (uuid, xid) in life:
        now += step
        monitor.sleep_until(now)
        monitor.meet(uuid, xid, now)
    monitor.sleep_until(now + 2 * PERIOD)
    assert monitor.log == XidLog()
    for lines in monitor.lines.values():
        for first, _ in lines:
            assert sum(first <= when < first + PERIOD for when, _ in lines) <= ONE_BY_ONE + 1
