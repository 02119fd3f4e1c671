"""Log lines about devices: one for each change of the list, without hundreds of IDs."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from proto import deviceplugin_pb2 as api
from proto.reasons import Reason, ReasonKind
from proto.worker import Handout, PlannedDevice, ResourcePlan
from workers.device_log import MOST_IDS, log_changes
from workers.devices import View, replicas
from workers.listing import Shelf
from workers.servicer import Servicer

XID, HANG = Reason(ReasonKind.XID, "79"), Reason(ReasonKind.DRIVER_HANG)


def view(counts: dict[str, int], unhealthy: dict[str, tuple[Reason, ...]] | None = None) -> View:
    """Return the view of GPUs with replicas; *counts* has their number by UUID."""
    devices = tuple(PlannedDevice(uuid, uuid, count, uuid) for uuid, count in counts.items())
    return View(
        "nvidia.com/gpu", replicas(ResourcePlan("nvidia.com/gpu", devices)), unhealthy or {}
    )


@pytest.fixture
def lines() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Return a list that collects the logged messages with their fields."""
    found: list[tuple[str, dict[str, Any]]] = []
    sink = logger.add(
        lambda line: found.append((line.record["message"], dict(line.record["extra"])))
    )
    yield found
    logger.remove(sink)


async def allocate(shown: View, ids: list[str]) -> None:
    """Allocate *ids* to a container, and wait for its log line."""
    logged = asyncio.Event()
    sink = logger.add(lambda _: logged.set(), filter="workers.device_log")
    servicer = Servicer(Shelf(shown), Handout(), lambda: None)
    request = api.AllocateRequest(
        container_requests=[api.ContainerAllocateRequest(devices_ids=ids)]
    )
    await servicer.Allocate(request, None)  # type: ignore[arg-type]
    async with asyncio.timeout(10):
        await logged.wait()
    logger.remove(sink)


ALLOCATED = "allocated devices to a container"


@pytest.mark.parametrize("count", [1, MOST_IDS])
def test_few_devices_are_named(lines: list[tuple[str, dict[str, Any]]], count: int) -> None:
    """The log line of an allocation of at most 8 devices has their IDs."""
    ids = [f"A::{number}" for number in range(count)]
    asyncio.run(allocate(view({"A": 300}), ids))
    assert lines == [(ALLOCATED, {"devices": count, "gpus": 1, "ids": ids})]


def test_many_devices_are_counted(lines: list[tuple[str, dict[str, Any]]]) -> None:
    """The log line of an allocation of more than 8 devices has only their number."""
    shown = view({"A": 150, "B": 150})
    asyncio.run(allocate(shown, [*shown.replicas]))
    asyncio.run(allocate(shown, [*shown.replicas][: MOST_IDS + 1]))
    assert lines == [
        (ALLOCATED, {"devices": 300, "gpus": 2}),
        (ALLOCATED, {"devices": 9, "gpus": 1}),
    ]


CHANGES = {
    "a fault": (
        ({"A": 4, "B": 4}, {}),
        ({"A": 4, "B": 4}, {"A": (XID,)}),
        [("device listed as Unhealthy", {"uuid": "A", "devices": 4, "reasons": ["xid 79"]})],
    ),
    "a recovery": (
        ({"A": 4}, {"A": (XID,)}),
        ({"A": 4}, {}),
        [("device listed as Healthy", {"uuid": "A", "devices": 4})],
    ),
    "a second reason": (
        ({"A": 4}, {"A": (XID,)}),
        ({"A": 4}, {"A": (HANG, XID)}),
        [
            (
                "reasons of an Unhealthy device changed",
                {"uuid": "A", "reasons": ["driver-hang", "xid 79"]},
            )
        ],
    ),
    "an Unhealthy GPU that is removed": (
        ({"A": 4, "B": 4}, {"A": (XID,)}),
        ({"B": 4}, {}),
        [("device removed from the list", {"uuid": "A"})],
    ),
    "an Unhealthy GPU that is added": (
        ({"A": 4}, {}),
        ({"A": 4, "B": 2}, {"B": (XID,)}),
        [
            ("device added to the list", {"uuid": "B", "devices": 2}),
            ("device listed as Unhealthy", {"uuid": "B", "devices": 2, "reasons": ["xid 79"]}),
        ],
    ),
    "no change": (({"A": 4}, {"A": (XID,)}), ({"A": 4}, {"A": (XID,)}), []),
}


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES.values(), ids=CHANGES)
def test_changes_of_the_list(
    lines: list[tuple[str, dict[str, Any]]],
    before: tuple[dict[str, int], dict[str, tuple[Reason, ...]]],
    after: tuple[dict[str, int], dict[str, tuple[Reason, ...]]],
    expected: list[tuple[str, dict[str, Any]]],
) -> None:
    """Each change of the list is one log line that says what the kubelet now sees."""
    log_changes(view(*before), view(*after), after[0])
    assert lines == expected
