"""How much of a child's reports one turn of the supervisor's loop reads."""

import contextlib
import os
import time

import pytest

from proto.channel import Channel, Sent
from proto.cluster import Labelled, Unlabelled
from proto.control import Beat, Hung, Marked, Ready, Report, Settled, Withhold
from supervisor import turns


def test_a_turn_reads_a_bounded_number_of_reports() -> None:
    """A child that sends without end gets a turn no longer than that of others."""
    ours, theirs = Channel.pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        sent = 0
        while theirs.send(Labelled(str(sent))) is Sent.TAKEN:
            sent += 1
        assert sent > turns.REPORTS
        reports, closed = turns.receive(ours, ended=False)
        assert (len(reports), closed) == (turns.REPORTS, False)
        rest, _ = turns.receive(ours, ended=True)
        assert len(rest) == sent - turns.REPORTS


def test_a_turn_stops_reading_reports_that_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that sends very long reports gets no longer turn than others: the rest waits."""
    ours, theirs = Channel.pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        for number in range(3):
            assert theirs.send(Labelled(str(number))) is Sent.TAKEN
        clock = iter((0.0, turns.READ_FOR / 2, turns.READ_FOR))
        monkeypatch.setattr("time.monotonic", lambda: next(clock))
        assert turns.receive(ours, ended=False) == ([Labelled("0"), Labelled("1")], False)


def test_the_last_reports_of_a_child_are_read_before_its_end() -> None:
    """What a child sent before it ended is not lost."""
    ours, theirs = Channel.pair()
    with contextlib.closing(ours):
        theirs.send(Ready())
        theirs.close()
        assert turns.receive(ours, ended=False) == ([Ready()], True)


A, B, C = Labelled("a"), Labelled("b"), Labelled("c")
BATCHES: dict[str, tuple[list[Report], list[Report]]] = {
    "nothing": ([], []),
    "only the newest label": ([A, B, C], [C]),
    "the newest label in its place": ([A, Ready(), B, Beat()], [Ready(), B, Beat()]),
    "a label and none": ([A, Unlabelled("no"), B], [Unlabelled("no"), B]),
    "many heartbeats": ([Beat(), Beat(), Settled(True), Settled(False)], [Beat(), Settled(False)]),
    "the newest occupied": ([Withhold({"A": ""}), Withhold({})], [Withhold({})]),
    "each hang counts": ([Hung("x"), Hung("x")], [Hung("x"), Hung("x")]),
    "each answer is waited for": ([Marked(), Marked("no")], [Marked(), Marked("no")]),
}


@pytest.mark.parametrize(("batch", "left"), BATCHES.values(), ids=BATCHES)
def test_only_the_newest_state_counts(batch: list[Report], left: list[Report]) -> None:
    """Of reports that say a state, the newest is left; of events, all are."""
    assert turns.newest(batch) == left


@pytest.mark.parametrize(
    ("late", "worked", "still"),
    [
        pytest.param(0.5, 0.0, False, id="in time"),
        pytest.param(5.0, 0.0, False, id="not late enough"),
        pytest.param(6.0, 0.01, True, id="the machine stood still"),
        pytest.param(6.0, 6.5, False, id="its own work"),
        pytest.param(60.0, 1.0, True, id="the machine stood still during some work"),
    ],
)
def test_own_work_is_no_standstill(late: float, worked: float, *, still: bool) -> None:
    """A turn that is long because the supervisor worked excuses no child that was silent."""
    assert turns.stood_still(late, worked) is still


def test_a_wait_tells_which_sources_are_ready() -> None:
    """A source that is readable or at its end is ready, one with nothing to read is not."""
    ours, theirs = Channel.pair()
    silent, other = Channel.pair()
    reading, writing = os.pipe()
    with contextlib.closing(ours), contextlib.closing(silent), contextlib.closing(other):
        assert turns.wait([ours, silent, reading], 0.0) == set()
        theirs.send(Beat())
        assert turns.wait([ours, silent, reading], 1.0) == {ours}
        os.close(writing)
        assert turns.wait([ours, silent, reading], 1.0) == {ours, reading}
        theirs.close()
        assert isinstance(ours.receive(), Beat)
        assert turns.wait([silent, ours], 1.0) == {ours}
    os.close(reading)


def test_a_wait_ends_not_before_its_time() -> None:
    """Part of a millisecond is waited for too: otherwise the loop would spin until it is over."""
    began = time.monotonic()
    assert turns.wait([], 0.0015) == set()
    assert time.monotonic() - began >= 0.0015
