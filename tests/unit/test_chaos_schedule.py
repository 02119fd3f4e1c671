"""The chaos runner: its schedule of faults, and the health that it expects."""

import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
from msgspec.structs import replace

from simulator.node import Live, SimulatedGpu, SimulatedNode, complete
from tests.chaos import truth
from tests.chaos.kinds import Kind
from tests.chaos.schedule import schedule
from tests.chaos.world import World

FIRST, SECOND = (f"GPU-00000000-0000-0000-0000-{place:012x}" for place in range(2))
LIVE = Live(complete(SimulatedNode((SimulatedGpu(), SimulatedGpu(mig=("1g.10gb", "1g.10gb+me"))))))
PARTS = tuple(LIVE.gpus[1].mig_uuid(place) for place in range(2))
WELL = truth.Service(replicas=2, quiesced=False)


@contextlib.asynccontextmanager
async def nothing(world: World, dice: Random) -> AsyncIterator[None]:
    """Do nothing."""
    del world, dice
    yield


def kinds() -> dict[str, Kind]:
    """Return four kinds of faults, each of its own group."""
    groups = {"Xid": "device", "kill": "process", "restart": "kubelet", "reload": "operator"}
    return {name: Kind(name, group, 1.0, 0.0, 2, nothing) for name, group in groups.items()}


def test_a_schedule_follows_from_its_seed() -> None:
    """The same seed gives the same schedule; a longer run starts with the same faults."""
    short, long = schedule(kinds(), 7, 20), schedule(kinds(), 7, 200)

    assert schedule(kinds(), 7, 20) == short
    assert long[: len(short) - 1] == short[:-1]  # the last step of a run has one fault only
    assert schedule(kinds(), 8, 20) != short


def test_a_schedule_begins_with_each_kind() -> None:
    """Each kind of fault comes once before any kind comes twice."""
    names = [name for step in schedule(kinds(), 7, 200) for name in step.names]

    assert set(names[:4]) == kinds().keys()
    assert 200 <= len(names) <= 201


def test_only_some_groups_of_faults_come_together() -> None:
    """A reload never comes together with another fault: no time limit would be known."""
    pairs = {s.names for seed in range(20) for s in schedule(kinds(), seed, 100) if s.names[1:]}

    assert pairs == {("Xid", "kill"), ("Xid", "restart"), ("restart", "kill")}


@pytest.mark.parametrize(
    ("change", "fit"),
    [
        (lambda live: live, {FIRST, *PARTS}),
        (lambda live: replace(live, lost=frozenset({FIRST})), {*PARTS}),
        (lambda live: replace(live, rows=frozenset({SECOND})), {FIRST}),
        (lambda live: replace(live, actions={FIRST: 1, SECOND: 0}), {*PARTS}),
        (lambda live: replace(live, hung=frozenset({SECOND})), {FIRST}),
        (lambda live: replace(live, denied=True), set()),
        (lambda live: replace(live, removed=frozenset({SECOND})), {FIRST}),
    ],
)
def test_expected_health_of_a_node(change: Callable[[Live], Live], fit: set[str]) -> None:
    """The devices that are expected Healthy follow from the node's faults."""
    view = truth.expected(change(LIVE), WELL)
    found = {
        name.partition("::")[0]
        for devices in view.values()
        for name, healthy in devices.items()
        if healthy
    }

    assert found == fit


def test_expected_health_has_every_device() -> None:
    """Each replica and MIG instance is expected, and all are Unhealthy while quiesced."""
    assert truth.expected(LIVE, WELL) == {
        "nvidia.com/gpu": {f"{FIRST}::0": True, f"{FIRST}::1": True},
        "nvidia.com/mig-1g.10gb": {PARTS[0]: True},
        "nvidia.com/mig-1g.10gb.me": {PARTS[1]: True},
    }
    quiesced = truth.expected(LIVE, truth.Service(1, quiesced=True))
    assert not any(any(devices.values()) for devices in quiesced.values())


def test_a_difference_is_named() -> None:
    """A resource that differs from the expectation is one line that names its devices."""
    seen = {"a": {"x": True, "y": False}, "b": {"w": True}}
    real = {"a": {"x": False}, "b": {"w": True}, "c": {"z": True}}

    assert truth.difference(seen, real) == [
        "a: x: Healthy instead of Unhealthy, y: Unhealthy instead of not listed",
        "c: z: not listed instead of Healthy",
    ]
    assert truth.difference(real, real) == []
