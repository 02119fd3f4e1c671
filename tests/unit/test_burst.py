"""Allocations in a burst: told together, in their order, and none is lost."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from proto import deviceplugin_pb2 as api
from proto.worker import Handout, PlannedDevice, ResourcePlan
from workers.burst import ANSWERED, EVERY, MOST, due
from workers.device_log import MOST_IDS, Container, grouped
from workers.devices import View, replicas
from workers.listing import Shelf
from workers.servicer import Servicer

GPUS = tuple(PlannedDevice(uuid, uuid, 300, uuid) for uuid in ("A", "B"))
VIEW = View("nvidia.com/gpu", replicas(ResourcePlan("nvidia.com/gpu", GPUS)), {})
SEVERAL = "allocated devices to several containers"


class Told:
    """What the exporter and the log are told."""

    def __init__(self) -> None:
        self.states = 0
        self.lines: list[dict[str, Any]] = []
        self._news = asyncio.Event()

    def state(self) -> None:
        """Count a message to the exporter."""
        self.states += 1

    def line(self, record: Any) -> None:
        """Collect a line."""
        self.lines.append({"message": record["message"], **record["extra"]})
        self._news.set()

    def ids(self) -> list[str]:
        """Return the IDs of all lines."""
        return [name for line in self.lines for name in line["ids"]]

    async def devices(self, count: int) -> None:
        """Wait until the lines tell so many devices."""
        async with asyncio.timeout(60):
            while sum(line["devices"] for line in self.lines) < count:
                self._news.clear()
                await self._news.wait()


@pytest.fixture
def told() -> Iterator[Told]:
    """Return what is told while the test runs."""
    found = Told()
    sink = logger.add(lambda m: found.line(m.record), filter="workers.device_log")
    yield found
    logger.remove(sink)


async def allocate(servicer: Servicer, *containers: list[str]) -> None:
    """Allocate the devices of *containers* in one call."""
    wanted = [api.ContainerAllocateRequest(devices_ids=ids) for ids in containers]
    await servicer.Allocate(api.AllocateRequest(container_requests=wanted), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "told", "expected"),
    [
        (100.0, 10.0, 100.0 + ANSWERED),
        (100.0, 100.0, 100.0 + EVERY),
        (100.0 + EVERY - ANSWERED, 100.0, 100.0 + EVERY),
    ],
    ids=["alone", "just after another", "at the end of the pause"],
)
def test_when_an_allocation_is_told(now: float, told: float, expected: float) -> None:
    """A single allocation is told after its answer; one in a burst waits for the others."""
    assert due(now, told) == pytest.approx(expected)


def test_a_burst_is_told_at_once_and_in_order(told: Told) -> None:
    """Allocations in a row are one message to the exporter, and few lines with all their IDs."""
    ids = [*VIEW.replicas][280:320]

    async def story() -> None:
        servicer = Servicer(Shelf(VIEW), Handout(), told.state)
        for name in ids:
            await allocate(servicer, [name])
        await told.devices(len(ids))

    asyncio.run(story())
    assert told.ids() == ids
    assert told.states == 1
    assert told.lines[2] == {
        "message": SEVERAL,
        "containers": MOST_IDS,
        "devices": MOST_IDS,
        "gpus": 2,
        "ids": ids[16:24],
    }
    assert len(told.lines) == len(ids) / MOST_IDS


def test_the_second_of_two_bursts_is_told_too(told: Told) -> None:
    """An allocation after a burst was told is told as well, with a message of its own."""

    async def story() -> None:
        servicer = Servicer(Shelf(VIEW), Handout(), told.state)
        for name in ("A::0", "A::1"):
            await allocate(servicer, [name])
            await told.devices(len(told.lines) + 1)

    asyncio.run(story())
    assert told.ids() == ["A::0", "A::1"]
    assert told.states == 2


def test_what_still_waits_at_the_end_is_told(told: Told) -> None:
    """A worker that ends tells everything that waits, also lines that wait for their turn."""
    ids = [*VIEW.replicas][: 3 * MOST_IDS]

    async def story() -> None:
        servicer = Servicer(Shelf(VIEW), Handout(), told.state)
        await allocate(servicer, *([name] for name in ids))
        await told.devices(1)  # the others wait
        await allocate(servicer, ["B::0"])
        servicer.burst.finish()
        assert told.ids() == [*ids, "B::0"]
        servicer.burst.finish()
        assert told.states == 2

    asyncio.run(story())


def test_a_flood_does_not_wait(told: Told) -> None:
    """Of many allocations no more than a bound wait: then they are told in the next turn."""
    ids = [*VIEW.replicas][:MOST]

    async def story() -> None:
        servicer = Servicer(Shelf(VIEW), Handout(), told.state)
        for name in ids:
            await allocate(servicer, [name])
        assert told.states == 0
        await asyncio.sleep(0)
        assert told.states == 1
        await told.devices(MOST)

    asyncio.run(story())
    assert told.ids() == ids
    assert told.states == 1


SIZES = {
    "none": ([], []),
    "one": ([1], [[1]]),
    "few": ([1, 3, 4], [[1, 3, 4]]),
    "too many for one line": ([4, 4, 1, 7, 2], [[4, 4], [1, 7], [2]]),
    "many devices": ([1, 300, 1], [[1], [300], [1]]),
    "many devices twice": ([9, 9], [[9], [9]]),
    "no device": ([0, 8, 0, 9, 0], [[0, 8, 0], [9], [0]]),
}


@pytest.mark.parametrize(("sizes", "expected"), SIZES.values(), ids=SIZES)
def test_containers_of_a_line(sizes: list[int], expected: list[list[int]]) -> None:
    """A line has as many containers as have at most 8 devices; a container with more is alone."""
    containers = [Container({}, ["A"] * size) for size in sizes]
    assert [[len(c.ids) for c in line] for line in grouped(containers)] == expected
