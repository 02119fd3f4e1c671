"""The chaos runner: its schedule of faults, and the health that it expects."""

import contextlib
from collections.abc import AsyncIterator, Callable
from random import Random

import pytest
from msgspec.structs import replace

from simulator.node import Live, SimulatedGpu, SimulatedLink, SimulatedNode
from simulator.node_file import complete
from tests.chaos import truth
from tests.chaos.gpus import Gpus
from tests.chaos.kinds import Kind
from tests.chaos.schedule import Step, pairs, schedule
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


def failing(live: Live, call: str) -> Live:
    """Let a call fail on the first GPU."""
    return replace(live, failing={FIRST: {call: 999}})


def linked(live: Live) -> Live:
    """Connect the GPUs by an NVLink."""
    return replace(live, node=replace(live.node, links=(SimulatedLink((0, 1), nvlinks=1),)))


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
        (lambda live: replace(live, slow={FIRST: 100}), {FIRST, *PARTS}),
        (lambda live: replace(live, links_down={FIRST: 1}), {*PARTS}),
        (lambda live: failing(live, "nvmlDeviceGetFieldValues"), {*PARTS}),
        (lambda live: failing(live, "nvmlDeviceGetName"), {*PARTS}),
        (lambda live: failing(live, "nvmlDeviceGetTopologyCommonAncestor"), {FIRST, *PARTS}),
        (lambda live: failing(live, "nvmlDeviceGetNvLinkState"), {FIRST, *PARTS}),
        (lambda live: failing(linked(live), "nvmlDeviceGetNvLinkState"), {*PARTS}),
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


def test_a_run_of_pairs() -> None:
    """Each step has both faults in an order that a schedule may have, as many as are wanted."""
    groups = {"Xid": "device", "hang": "gpu", "kill": "process"}
    some = {name: Kind(name, group, 1.0, 0.0, 2, nothing) for name, group in groups.items()}
    steps = pairs(some, ("Xid", "hang"), 7, 39)

    assert {step.names for step in steps} == {("Xid", "hang"), ("hang", "Xid")}
    assert (len(steps), steps[0]) == (20, Step(1, steps[0].names, "7/0"))
    assert {step.names for step in pairs(some, ("kill", "Xid"), 7, 39)} == {("Xid", "kill")}
    with pytest.raises(ValueError, match='cannot inject "kill" with "kill"'):
        pairs(some, ("kill", "kill"), 7, 39)


def listed(gpus: Gpus, *healthy: bool, broken: bool = False, now: float = 0.0) -> list[str]:
    """Return the verdict about a list that has devices of the first GPU."""
    return [*gpus.judge({FIRST: set(healthy)}, frozenset({FIRST} if broken else ()), now)]


def test_a_list_may_not_show_what_is_not_so() -> None:
    """A broken GPU that was Unhealthy, one in its quiet period, and a well one are kept apart."""
    gpus = Gpus()

    assert listed(gpus, True, broken=True) == []  # the service has not noticed it yet
    assert listed(gpus, False, broken=True) == []
    assert listed(gpus, True, False, broken=True) == [
        f"{FIRST} is listed as Healthy although it is broken"
    ]
    gpus.not_before[FIRST] = 5.0
    assert listed(gpus, True, now=6.0) == []
    assert listed(gpus, True, now=4.0) == [
        f"{FIRST} is listed as Healthy before its quiet period ended"
    ]
    gpus.steady = frozenset({FIRST})
    assert listed(gpus, True) == []
    assert listed(gpus, True, False) == [f"{FIRST} is listed as Unhealthy although it is well"]
    gpus.excuse()  # the machine stood still
    assert listed(gpus, False) == []


def test_a_difference_is_named() -> None:
    """A resource that differs from the expectation is one line that names its devices."""
    seen = {"a": {"x": True, "y": False}, "b": {"w": True}}
    real = {"a": {"x": False}, "b": {"w": True}, "c": {"z": True}}

    assert truth.difference(seen, real) == [
        "a: x: Healthy instead of Unhealthy, y: Unhealthy instead of not listed",
        "c: z: not listed instead of Healthy",
    ]
    assert truth.difference(real, real) == []
