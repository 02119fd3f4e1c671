"""When the exporter reports occupied devices."""

import contextlib
from collections.abc import Iterator

import pytest

from proto.channel import Channel
from proto.control import Occupied
from supervisor.exporter.occupied_reports import EVERY, OccupiedReports
from supervisor.status.snapshot import Snapshot
from tests.unit.test_usage_rows import NOW, STALE, process, snapshot


class World:
    """The reports of an exporter, with a clock and the supervisor's end of the channel."""

    def __init__(self, channel: Channel, end: Channel) -> None:
        self.reports = OccupiedReports(channel, STALE)
        self.end = end
        self.now = NOW

    def occupy(self) -> None:
        """Show three leaks, each with a list that was asked for later."""
        for taken in (1.0, 2.0, 3.0):
            known = self.shown(taken)
            assert self.reports.look(known) is True
            self.now += 0.1
            self.reports.listed(self.now)
            self.reports.look(known)
            assert self.reports.look(known) is False

    def shown(self, taken: float) -> Snapshot:
        """Return what is known when a sample of this time shows a leak."""
        return snapshot(process(1), replicas=1, sample={"taken": taken})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Return a world, and close its channel after the test."""
    ours, theirs = Channel.pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        made = World(ours, theirs)
        monkeypatch.setattr("time.monotonic", lambda: made.now)
        yield made


TOLD = Occupied({"A": "0 MiB in use"})


def test_a_report_at_each_change(world: World) -> None:
    """An exporter begins without a report: an older one may still count. A clean sample is told."""
    clean = snapshot(replicas=1)
    world.reports.look(clean)
    world.reports.tend(clean)
    assert world.end.receive() is None
    world.occupy()
    assert (world.end.receive(), world.end.receive()) == (TOLD, None)
    world.reports.look(clean)
    assert (world.end.receive(), world.end.receive()) == (Occupied({}), None)
    world.now += EVERY
    world.reports.tend(clean)
    assert world.end.receive() is None


def test_a_report_is_repeated(world: World) -> None:
    """The monitor forgets a report, and a new monitor never had one."""
    world.occupy()
    assert world.end.receive() == TOLD
    world.reports.tend(world.shown(3.0))
    assert world.end.receive() is None
    world.reports.report(world.now, again=True)
    assert (world.end.receive(), world.end.receive()) == (TOLD, None)
    world.now += EVERY
    world.reports.tend(world.shown(3.0))
    assert (world.end.receive(), world.end.receive()) == (TOLD, None)


def test_an_allocation_outdates_the_list(world: World) -> None:
    """A list from before an allocation does not show the new holder."""
    for taken in (1.0, 2.0, 3.0, 4.0):
        known = world.shown(taken)
        world.reports.look(known)
        world.reports.listed(world.now + 0.1)
        world.now += 0.2
        world.reports.allocated(["A"])
        world.reports.look(known)
    assert world.end.receive() is None
