"""What counts as a driver call that hangs, and when it counts as returned."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from msgspec.structs import replace

from health.condition import Look
from health.hangs import Hang, Hangs
from health.lane import Lane, Mailbox
from health.nvml import Nvml, Running
from health.watched import WatchedGpus
from proto.messages import Gpu
from tests.unit.builders import gpu, inventory

if TYPE_CHECKING:
    from health.gpu_lanes import GpuLanes
    from health.node import Node

LIMIT = 15.0


class Calls:
    """One lane whose call the test sets, and the search for hangs at the times that it names."""

    def __init__(self) -> None:
        self.lane = Lane("driver", Nvml(), Mailbox())
        self.hangs = Hangs()

    def runs(self, call: str, due: float) -> None:
        """Let the lane be in this call."""
        self.lane.nvml.running = Running(call, due)

    def search(self, now: float) -> tuple[list[str], list[str]]:
        """Return the calls that hang since the last search, and those that returned."""
        begun, ended = self.hangs.search([(self.lane, None)], now, LIMIT)
        return [hang.running.call for hang in begun], [hang.running.call for hang in ended]

    def search_each_second(self, begin: int, end: int) -> list[tuple[list[str], list[str]]]:
        """Search as the monitor does, and return what was not empty."""
        found = [self.search(float(now)) for now in range(begin, end)]
        return [each for each in found if each != ([], [])]


def test_a_call_hangs_after_the_limit() -> None:
    """It hangs once, until it returns."""
    calls = Calls()
    calls.runs("nvmlDeviceGetName", 0.0)
    assert calls.search_each_second(0, 16) == []
    assert calls.search_each_second(16, 30) == [(["nvmlDeviceGetName"], [])]
    calls.lane.nvml.running = None
    assert calls.search_each_second(30, 40) == [([], ["nvmlDeviceGetName"])]


def test_a_wait_for_events_that_hangs_is_known_until_it_returns() -> None:
    """A hang of another call is none of events. What an earlier monitor knew counts at first."""
    mailbox = Mailbox()
    lanes = cast("GpuLanes", SimpleNamespace(uuid="A", events=Lane("events", Nvml(), mailbox)))
    waits = Hang(lanes.events, lanes, Running("nvmlEventSetWait", 0.0))
    checks = Hang(Lane("calls", Nvml(), mailbox), lanes, Running("nvmlDeviceGetName", 0.0))
    watched = WatchedGpus(cast("Node", SimpleNamespace(gpus=())), Hangs(), {"B": "before"})
    watched.note([waits, checks], [])
    assert watched.deaf == {"A": "nvmlEventSetWait", "B": "before"}
    watched.note([], [checks])
    assert watched.deaf == {"A": "nvmlEventSetWait", "B": "before"}
    watched.note([], [waits])
    assert watched.deaf == {"B": "before"}


FIRST, SECOND, THIRD = gpu(0), gpu(1), gpu(2)
GIVEN = gpu(0, uuid="GPU-given", pci_bus_id="0000:ff:00.0")
LAST = replace(FIRST, index=1)
ABSENT: dict[str, tuple[list[Gpu | None], list[Gpu], set[int], list[Gpu]]] = {
    # What answers by index, which others the node has, which indices hang, and who that is.
    "the index is the same": ([FIRST, None, THIRD], [SECOND], {1}, [SECOND]),
    "an earlier GPU is gone": ([None, LAST], [SECOND], {0}, [SECOND]),
    "two hang": ([None, None, replace(FIRST, index=2)], [SECOND, THIRD], {0, 1}, [SECOND, THIRD]),
    "another one hangs in its check": ([FIRST, None], [SECOND], {0, 1}, [FIRST, SECOND]),
    "one of two hangs": ([None, None, replace(FIRST, index=2)], [SECOND, THIRD], {0}, []),
    "another GPU is missing": ([None, LAST], [SECOND, THIRD], {0}, []),
    "another GPU is given away": ([None, LAST], [SECOND, GIVEN], {0}, [SECOND]),
    "its index was that of one that is given away": ([None], [GIVEN, THIRD], {0}, [THIRD]),
}


@pytest.mark.parametrize(("slots", "absent", "hanging", "expected"), ABSENT.values(), ids=ABSENT)
def test_a_gpu_that_hangs_before_it_told_its_name(
    slots: list[Gpu | None], absent: list[Gpu], hanging: set[int], expected: list[Gpu]
) -> None:
    """It is the one that had the index before, or else each of those that only can be meant."""
    lanes = [
        cast("GpuLanes", SimpleNamespace(index=index, gpu=it, uuid=it.uuid if it else ""))
        for index, it in enumerate(slots)
    ]
    for lane in lanes:
        lane.calls = Lane("calls", Nvml(), Mailbox())
        if lane.index in hanging:
            lane.calls.nvml.running = Running("nvmlDeviceGetName", 0.0)
    hangs = Hangs()
    hangs.search([(each.calls, each) for each in lanes], 16.0, LIMIT)
    passed = {GIVEN.pci_bus_id: "vfio-pci"}
    node = replace(inventory(*(it for it in slots if it), *absent), passed=passed)
    found = hangs.looks(node, lanes)
    assert found == {it.uuid: Look(hung="nvmlDeviceGetName") for it in expected}


def test_a_call_does_not_hang_because_this_process_stood_still() -> None:
    """A frozen machine freezes the thread in the call too: its time counts from the end of that."""
    calls = Calls()
    calls.search_each_second(0, 10)
    calls.runs("nvmlEventSetWait", 12.0)
    assert calls.search(100.0) == ([], [])
    assert calls.hangs.deadline([(calls.lane, None)], 100.0, LIMIT) == 100.0 + LIMIT
    assert calls.search_each_second(101, 116) == []
    assert calls.search_each_second(116, 120) == [(["nvmlEventSetWait"], [])]


def test_a_call_that_hung_before_this_process_stood_still_hangs_on() -> None:
    """It has not returned, so nobody is told that it has."""
    calls = Calls()
    calls.runs("nvmlDeviceGetName", 0.0)
    assert calls.search_each_second(0, 20) == [(["nvmlDeviceGetName"], [])]
    assert calls.search(100.0) == ([], [])
    assert [hang.running.call for hang in calls.hangs.now()] == ["nvmlDeviceGetName"]
