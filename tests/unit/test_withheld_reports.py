"""When the exporter reports devices that are not to be handed out."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from proto.channel import Channel
from proto.control import Withhold
from supervisor.exporter.withheld_reports import EVERY, WithheldReports
from supervisor.status import dra
from supervisor.status.allocations import DynamicDevice
from supervisor.status.snapshot import Snapshot
from tests.unit.test_usage_rows import NOW, STALE, process, snapshot


class World:
    """The reports of an exporter, with a clock and the supervisor's end of the channel."""

    def __init__(self, channel: Channel, end: Channel) -> None:
        self.channel = channel
        self.reports = WithheldReports(channel, STALE, hold_occupied=True, hold_dra=False)
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


TOLD = Withhold({"A": "0 MiB in use"})


def test_a_report_at_each_change(world: World) -> None:
    """An exporter begins without a report: an older one may still count. A clean sample is told."""
    clean = snapshot(replicas=1)
    world.reports.look(clean)
    world.reports.tend(clean)
    assert world.end.receive() is None
    world.occupy()
    assert (world.end.receive(), world.end.receive()) == (TOLD, None)
    world.reports.look(clean)
    assert (world.end.receive(), world.end.receive()) == (Withhold(), None)
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


CLAIMED = DynamicDevice(dra.NVIDIA, "node", "gpu-0", "n/claim", "n", "jo", "main")
HELD = Withhold(dra={"A": "n/jo/main (claim n/claim, gpu-0 of gpu.nvidia.com)"})


def test_devices_held_through_dra(world: World) -> None:
    """They are reported at each change and regularly; nothing that is occupied is, if not asked."""
    reports = WithheldReports(world.channel, STALE, hold_occupied=False, hold_dra=True)
    known = replace(world.shown(1.0), dynamic=(CLAIMED,))
    assert reports.look(known) is False
    assert (world.end.receive(), world.end.receive()) == (HELD, None)
    reports.tend(known)
    assert world.end.receive() is None
    world.now += EVERY
    reports.tend(known)
    assert (world.end.receive(), world.end.receive()) == (HELD, None)
    reports.tend(world.shown(1.0))
    assert (world.end.receive(), world.end.receive()) == (Withhold(), None)
