"""The plan of shared devices: resource names and numbers of replicas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.advertising import MigStrategy
from proto.messages import Gpu
from proto.problem import Problem, ProblemKind
from supervisor.config.sharing import BY_MEMORY, Share, Shares
from supervisor.plan import Plan, Rules, plan
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu, mig_uuid

GPU, SHARED, OTHER = "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/other"
SLICE = "nvidia.com/mig-1g.10gb"
FOUR = tuple(gpu(place) for place in range(4))
MIXED_NODE = (gpu(0), mig_gpu(1, "1g.10gb", "1g.10gb"), mig_gpu(2, "1g.10gb"))


def sharing(gpus: tuple[Gpu, ...], shares: Shares) -> Plan:
    """Return the plan of a node with these shares and MIG strategy mixed."""
    return plan(Rules(mig=MigStrategy.MIXED, shares=shares), inventory(*gpus))


def counts(found: Plan) -> dict[str, dict[str, int]]:
    """Return each device's number of replicas, by resource and index."""
    return {
        planned.resource: {device.index: device.replicas for device in planned.devices}
        for planned in found.resources
    }


@pytest.mark.parametrize(
    ("memory", "replicas"),
    [(81559, 81), (40960, 40), (1999, 1), (1000, 1), (999, 1), (0, 1), (None, 1)],
    ids=["H100", "A100", "under two units", "one unit", "under one unit", "nothing", "unknown"],
)
def test_replicas_by_memory(memory: int | None, replicas: int) -> None:
    """With -1 a device has one replica per 1000 MiB, at least one, also if unknown."""
    found = sharing((gpu(memory_mib=memory),), {GPU: (Share(GPU, BY_MEMORY),)})
    assert counts(found) == {GPU: {"0": replicas}}


def test_replicas_by_memory_differ_between_devices() -> None:
    """With -1 each GPU and each MIG instance has the replicas for its own memory."""
    node = (gpu(0, memory_mib=24576), gpu(1), mig_gpu(2, "1g.10gb", "3g.40gb"))
    shares = {name: (Share(OTHER, BY_MEMORY),) for name in (GPU, SLICE, "nvidia.com/mig-3g.40gb")}
    assert counts(sharing(node, shares)) == {OTHER: {"0": 24, "1": 81, "2:0": 9, "2:1": 40}}


def test_a_number_of_replicas_does_not_depend_on_memory() -> None:
    """A fixed number of replicas also holds for a device of unknown memory."""
    found = sharing((gpu(memory_mib=None),), {GPU: (Share(GPU, 3),)})
    assert counts(found) == {GPU: {"0": 3}}


ALL_OF = {"0": 2, "1": 2, "2": 2, "3": 2}
SHARES: dict[str, tuple[Share, dict[str, dict[str, int]]]] = {
    "all, under its own name": (Share(GPU, 2), {GPU: ALL_OF}),
    "all, renamed": (Share(SHARED, 2), {SHARED: ALL_OF}),
    "one replica, renamed": (Share(OTHER, 1), {OTHER: dict.fromkeys("0123", 1)}),
    "a count": (Share(SHARED, 2, 2), {SHARED: {"0": 2, "1": 2}, GPU: {"2": 1, "3": 1}}),
    "a count, under its own name": (Share(GPU, 2, 1), {GPU: {"0": 2, "1": 1, "2": 1, "3": 1}}),
    "a count of all": (Share(SHARED, 2, 4), {SHARED: ALL_OF}),
    "indices": (
        Share(SHARED, 2, ("3", "1")),
        {SHARED: {"1": 2, "3": 2}, GPU: {"0": 1, "2": 1}},
    ),
    "UUIDs": (
        Share(SHARED, 2, (gpu_uuid(2),)),
        {SHARED: {"2": 2}, GPU: {"0": 1, "1": 1, "3": 1}},
    ),
    "one device by two names": (
        Share(SHARED, 2, ("0", gpu_uuid(0))),
        {SHARED: {"0": 2}, GPU: {"1": 1, "2": 1, "3": 1}},
    ),
    "nothing": (Share(SHARED, 2, ()), {GPU: dict.fromkeys("0123", 1)}),
}


@pytest.mark.parametrize(("share", "expected"), SHARES.values(), ids=SHARES)
def test_selection(share: Share, expected: dict[str, dict[str, int]]) -> None:
    """Selected devices get the share's name and replicas; others keep their name, unshared."""
    found = sharing(FOUR, {GPU: (share,)})
    assert counts(found) == expected
    assert found.problems == ()


@pytest.mark.parametrize(
    ("devices", "shared"),
    [
        (None, {"1:0", "1:1", "2:0"}),
        (2, {"1:0", "1:1"}),
        (("1:1",), {"1:1"}),
        ((mig_uuid(2, 0),), {"2:0"}),
        ((f"MIG-{gpu_uuid(1)}/8/0",), {"1:1"}),
        (("2:0", mig_uuid(1, 0)), {"1:0", "2:0"}),
    ],
    ids=["all", "count", "place", "UUID", "old name", "several"],
)
def test_selection_of_instances(devices: int | tuple[str, ...] | None, shared: set[str]) -> None:
    """MIG instances are selected by place, UUID or old name; whole GPUs stay unshared."""
    found = sharing(MIXED_NODE, {SLICE: (Share(OTHER, 3, devices),)})
    left = {"1:0", "1:1", "2:0"} - shared
    expected = {GPU: {"0": 1}, OTHER: dict.fromkeys(sorted(shared), 3)}
    expected |= {SLICE: dict.fromkeys(sorted(left), 1)} if left else {}
    assert counts(found) == expected
    assert found.problems == ()


def test_gpus_and_instances_shared_under_one_name() -> None:
    """Devices shared under one name are one resource, each with its share's replicas."""
    shares = {GPU: (Share(OTHER, 4),), SLICE: (Share(OTHER, 2),)}
    assert counts(sharing(MIXED_NODE, shares)) == {OTHER: {"0": 4, "1:0": 2, "1:1": 2, "2:0": 2}}


def test_a_renamed_device_is_not_shared_again() -> None:
    """A device that a share renames is not shared again by the share of its new name."""
    shares = {SLICE: (Share(GPU, 2),), GPU: (Share(SHARED, 5),)}
    found = counts(sharing(MIXED_NODE, shares))
    assert found == {GPU: {"1:0": 2, "1:1": 2, "2:0": 2}, SHARED: {"0": 5}}


def test_several_shares_of_one_resource() -> None:
    """With several shares of a resource, the first share that selects a device is used."""
    shares = {GPU: (Share(SHARED, 3, ("1",)), Share(OTHER, 2, 2))}
    assert counts(sharing(FOUR, shares)) == {
        SHARED: {"1": 3},
        OTHER: {"0": 2, "2": 2},
        GPU: {"3": 1},
    }


def test_a_device_of_an_earlier_share_is_not_missing() -> None:
    """A list may name a device of an earlier share; the device stays in that share."""
    found = sharing(FOUR, {GPU: (Share(SHARED, 3, ("0",)), Share(OTHER, 2, ("0", "1")))})
    assert counts(found) == {SHARED: {"0": 3}, OTHER: {"1": 2}, GPU: {"2": 1, "3": 1}}
    assert found.problems == ()


def test_a_share_of_a_missing_resource_is_a_notice() -> None:
    """A share of a resource without devices changes nothing, and is information, not a problem."""
    found = sharing(FOUR, {SLICE: (Share(OTHER, 7),), SHARED: (Share(OTHER, 7),)})
    assert found.resources == sharing(FOUR, {}).resources
    assert found.problems == ()
    told = f"not shared, because this node has no such resource: {SHARED}, {SLICE}"
    assert found.notices == (told,)


def test_thousands_of_missing_names_are_counted() -> None:
    """A notice or problem names eight and counts the others: the kernel limits a message."""
    many = {f"nvidia.com/r{place:04}": (Share(OTHER, 2),) for place in range(5000)}
    gone = tuple(str(place) for place in range(4, 3000))
    found = sharing(FOUR, {**many, GPU: (Share(SHARED, 2, gone), Share(OTHER, 2, gone))})
    (notice,), (problem,) = found.notices, found.problems
    assert notice.endswith("nvidia.com/r0007 and 4,992 more")
    assert problem.text.endswith("missing on this node: 4, 5, 6, 7, 8, 9, 10, 11 and 5,984 more")


@pytest.mark.parametrize("memory", [None, 0])
def test_replicas_by_an_unknown_memory_are_a_problem(memory: int | None) -> None:
    """A device whose memory the driver does not report is named, and what to write instead."""
    node = (gpu(0), gpu(1, memory_mib=memory), gpu(2, memory_mib=memory))
    found = sharing(node, {GPU: (Share(OTHER, BY_MEMORY),)})
    assert counts(found) == {OTHER: {"0": 81, "1": 1, "2": 1}}
    text = (
        f"cannot share {GPU} by memory: the driver does not report the memory of device 1, 2; "
        "each has one replica; write a number of replicas instead of -1"
    )
    assert found.problems == (Problem(ProblemKind.MEMORY_UNKNOWN, text),)
    assert sharing(node, {GPU: (Share(OTHER, 4),)}).problems == ()


@pytest.mark.parametrize(
    ("devices", "missing", "shared"),
    [
        (5, "1 more", {"0", "1", "2", "3"}),
        (9, "5 more", {"0", "1", "2", "3"}),
        (("0", "7"), "7", {"0"}),
        (("7", "0:0"), "7, 0:0", set()),
        ((gpu_uuid(9), gpu_uuid(1)), gpu_uuid(9), {"1"}),
        (tuple("0456789abcdef"), "4, 5, 6, 7, 8, 9, a, b and 4 more", {"0"}),
    ],
)
def test_missing_devices_are_a_problem(
    devices: int | tuple[str, ...], missing: str, shared: set[str]
) -> None:
    """Missing devices of a share are a problem; the others are shared or advertised."""
    found = sharing(FOUR, {GPU: (Share(SHARED, 2, devices),)})
    text = f"cannot share all configured devices of {GPU}; missing on this node: {missing}"
    assert found.problems == (Problem(ProblemKind.NOT_SHARED, text),)
    left = {d.index: d.replicas for r in found.resources if r.resource == GPU for d in r.devices}
    assert left == dict.fromkeys(sorted(set("0123") - shared), 1)
    assert counts(found).get(SHARED, {}) == dict.fromkeys(sorted(shared), 2)


names = st.sampled_from([GPU, SHARED, OTHER, SLICE])
references = st.sampled_from(
    [*"0123", "1:0", "2:1", gpu_uuid(0), gpu_uuid(3), mig_uuid(1, 0), f"MIG-{gpu_uuid(2)}/7/0"]
)
selections = st.none() | st.integers(1, 5) | st.lists(references, max_size=3).map(tuple)
shares_of_one = st.lists(
    st.builds(Share, names, st.sampled_from([BY_MEMORY, 1, 2, 5]), selections), max_size=3
)
nodes = st.lists(
    st.lists(st.sampled_from(["1g.10gb", "3g.40gb"]), max_size=3) | st.none(), max_size=4
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(names, shares_of_one.map(tuple)), nodes, st.sampled_from(list(MigStrategy)))
def test_each_device_is_advertised_once(
    shares: dict[str, tuple[Share, ...]], profiles: list[list[str] | None], strategy: MigStrategy
) -> None:
    """With any shares, each device is advertised exactly once, and the plan is the same."""
    gpus = [gpu(n) if layout is None else mig_gpu(n, *layout) for n, layout in enumerate(profiles)]
    rules = Rules(mig=strategy, shares=shares)
    found = plan(rules, inventory(*gpus))
    advertised = [device.uuid for resource in found.resources for device in resource.devices]
    whole = [g.uuid for g in gpus if strategy is MigStrategy.NONE or not g.mig_enabled]
    parts = [i.uuid for g in gpus for i in g.instances if g.uuid not in whole]
    refused = any(problem.fatal for problem in found.problems)
    assert sorted(advertised) == ([] if refused else sorted(whole + parts))
    assert all(device.replicas >= 1 for planned in found.resources for device in planned.devices)
    assert all(planned.devices for planned in found.resources)
    assert plan(rules, inventory(*gpus)) == found
