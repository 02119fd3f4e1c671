"""Many nodes at once: their cluster processes never all ask the API server in the same moment."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from proto.backoff import LAST, REJOIN
from proto.labels import LabelOutput
from supervisor.cluster.node_condition import HEARTBEAT, TYPE
from tests.bench.fleet import GPUS, Fleet, kubeconfig
from tests.fakes import virtual_time
from tests.fakes.api_fleet import Request

NODES = 20
WATCH, READ, CONDITION = "watch of the node", "read of the node", "condition"

Story = Callable[[Fleet], Coroutine[Any, Any, None]]


def run(
    folder: Path, story: Story, output: LabelOutput = LabelOutput.OFF, settled: float = 400
) -> None:
    """Start all nodes in the same second, wait until they have *settled*, then run *story*.

    Settled: each has written once, and once more at its own time, at most HEARTBEAT later.
    """

    async def whole() -> None:
        fleet = Fleet(NODES, output)
        await fleet.server.start()
        with kubeconfig(fleet.server, folder):
            fleet.start()
            await asyncio.sleep(settled)
            await story(fleet)
            await fleet.stop()
        await fleet.server.stop()

    random.seed(1)
    logger.disable("supervisor")
    try:
        virtual_time.run(whole())
    finally:
        logger.enable("supervisor")


async def requests(fleet: Fleet, seconds: float) -> list[Request]:
    """Return what is requested in the next *seconds*."""
    begun = len(fleet.server.record)
    await asyncio.sleep(seconds)
    return fleet.server.record[begun:]


def most(found: list[Request], seconds: float) -> int:
    """Return how many requests came in the busiest of the parts that are *seconds* long."""
    return max(Counter(int(request.at / seconds) for request in found).values(), default=0)


@pytest.mark.parametrize("output", [LabelOutput.NODE, LabelOutput.NODEFEATURE])
def test_what_is_regular_is_spread(folder: Path, output: LabelOutput) -> None:
    """Nodes that started in the same second renew condition, labels and watch at different times;
    each patches its condition once in five minutes.
    """

    async def story(fleet: Fleet) -> None:
        found = await requests(fleet, 2 * HEARTBEAT)
        patches = Counter(request.node for request in found if request.kind == CONDITION)
        assert patches == dict.fromkeys(fleet.names, 2)
        assert most(found, 5.0) < NODES / 2
        assert not [r for r in found if r.writes and r.kind != CONDITION]

    run(folder, story, output)


def test_a_restart_of_all_nodes_writes_nothing(folder: Path) -> None:
    """A process that finds condition and labels right writes nothing until its node's turn."""

    async def story(fleet: Fleet) -> None:
        await fleet.stop()
        fleet.start()
        found = await requests(fleet, HEARTBEAT)
        assert most([request for request in found if request.writes], 5.0) < NODES / 4
        assert {request.kind for request in found if request.writes} == {CONDITION}

    run(folder, story, LabelOutput.NODE)


def test_watches_do_not_come_back_at_once(folder: Path) -> None:
    """When the API server restarts, the watches of all nodes begin again, spread over a while."""

    async def story(fleet: Fleet) -> None:
        await fleet.server.stop()
        await fleet.server.start()
        found = await requests(fleet, REJOIN + 5)
        watches = [request for request in found if request.kind == WATCH]
        assert {request.node for request in watches} == set(fleet.names)
        assert most(watches, 2.0) < NODES / 2

    run(folder, story, settled=100)


def test_after_an_outage_a_fault_is_told_first(folder: Path) -> None:
    """After a long outage a changed condition is written within a minute, though nothing else has
    to be, and each Event is sent once.
    """

    async def story(fleet: Fleet) -> None:
        await fleet.server.stop()
        await asyncio.sleep(HEARTBEAT + 50)
        fleet.fail(fleet.nodes[:2])
        await asyncio.sleep(HEARTBEAT + 50)
        await fleet.server.start()
        found = await requests(fleet, 65)
        bad = set(fleet.names[:2])
        nodes = fleet.server.nodes
        assert {n for n in nodes if nodes[n].conditions[TYPE]["status"] == "True"} == bad
        told = Counter(request.node for request in found if request.kind == "Event, new")
        assert told == dict.fromkeys(bad, 16)
        assert len({r.node for r in found if r.kind == CONDITION} - bad) < NODES / 2

    run(folder, story)


def test_a_watch_that_is_forbidden_backs_off(folder: Path) -> None:
    """Without the right to watch, a node that it may read is not read again and again."""

    async def story(fleet: Fleet) -> None:
        for node in fleet.server.nodes.values():
            node.forbidden = "/api/v1/nodes?"
        await fleet.server.stop()
        await fleet.server.start()
        await asyncio.sleep(300)
        found = await requests(fleet, 600)
        watches = Counter(request.node for request in found if request.kind == WATCH)
        assert all(5 <= count <= 25 for count in watches.values())

    run(folder, story, settled=100)


@pytest.mark.parametrize("output", [LabelOutput.NODE, LabelOutput.NODEFEATURE])
def test_labels_after_a_minute_without_the_api_server(folder: Path, output: LabelOutput) -> None:
    """What changes while the API server is away for a minute is in the labels of each node at most
    a minute after it is back; until then the old labels stay.
    """

    async def story(fleet: Fleet) -> None:
        assert counts(fleet, output) == [str(GPUS)] * NODES
        await fleet.server.stop()
        for node in fleet.nodes:
            node.relabel(GPUS - 1)
        await asyncio.sleep(60)
        assert counts(fleet, output) == [str(GPUS)] * NODES
        await fleet.server.start()
        await asyncio.sleep(LAST + 5)
        assert counts(fleet, output) == [str(GPUS - 1)] * NODES

    run(folder, story, output, settled=30)


def counts(fleet: Fleet, output: LabelOutput) -> list[str]:
    """Return the label with the number of GPUs of each node."""
    found = []
    for node in fleet.server.nodes.values():
        labels = node.labels
        if output is LabelOutput.NODEFEATURE:
            (feature,) = node.features.values()
            labels = feature["spec"]["labels"]
        found.append(labels["nvidia.com/gpu.count"])
    return found
