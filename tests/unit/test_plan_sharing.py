"""How devices are shared: under which name and in how many replicas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.control import Problem, ProblemKind
from proto.messages import Gpu
from supervisor.config.file_schema import MigStrategy
from supervisor.config.sharing import BY_MEMORY, Share, Shares
from supervisor.plan import Plan, Rules, plan
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu, mig_uuid

GPU, SHARED, OTHER = "nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/other"
SLICE = "nvidia.com/mig-1g.10gb"
FOUR = tuple(gpu(place) for place in range(4))
MIXED_NODE = (gpu(0), mig_gpu(1, "1g.10gb", "1g.10gb"), mig_gpu(2, "1g.10gb"))


def sharing(gpus: tuple[Gpu, ...], shares: Shares) -> Plan:
    """Return what a node in mixed strategy advertises by these *shares*."""
    return plan(Rules(mig=MigStrategy.MIXED, shares=shares), inventory(*gpus))


def counts(found: Plan) -> dict[str, dict[str, int]]:
    """Return the replicas of each device by index, by resource."""
    return {
        one.resource: {device.index: device.replicas for device in one.devices}
        for one in found.resources
    }


@pytest.mark.parametrize(
    ("memory", "replicas"),
    [(81559, 81), (40960, 40), (1999, 1), (1000, 1), (999, 1), (0, 1), (None, 1)],
    ids=["H100", "A100", "under two units", "one unit", "under one unit", "nothing", "unknown"],
)
def test_replicas_by_memory(memory: int | None, replicas: int) -> None:
    """With -1 a device has a replica for each whole 1000 MiB, and one where that is not known."""
    found = sharing((gpu(memory_mib=memory),), {GPU: (Share(GPU, BY_MEMORY),)})
    assert counts(found) == {GPU: {"0": replicas}}


def test_replicas_go_by_each_devices_own_memory() -> None:
    """On a node of unequal GPUs and instances each has the replicas of its own memory."""
    node = (gpu(0, memory_mib=24576), gpu(1), mig_gpu(2, "1g.10gb", "3g.40gb"))
    shares = {name: (Share(OTHER, BY_MEMORY),) for name in (GPU, SLICE, "nvidia.com/mig-3g.40gb")}
    assert counts(sharing(node, shares)) == {OTHER: {"0": 24, "1": 81, "2:0": 9, "2:1": 40}}


def test_a_number_of_replicas_does_not_depend_on_memory() -> None:
    """A plain number of replicas holds for a device of unknown memory, too."""
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
    """The selected devices go under the share's name; the others keep theirs, unreplicated."""
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
    """Instances are selected by place, UUID and old name; whole GPUs are not concerned."""
    found = sharing(MIXED_NODE, {SLICE: (Share(OTHER, 3, devices),)})
    left = {"1:0", "1:1", "2:0"} - shared
    expected = {GPU: {"0": 1}, OTHER: dict.fromkeys(sorted(shared), 3)}
    expected |= {SLICE: dict.fromkeys(sorted(left), 1)} if left else {}
    assert counts(found) == expected
    assert found.problems == ()


def test_a_name_may_unite_shared_gpus_and_instances() -> None:
    """Devices that are shared under one name are one resource, each with its own replicas."""
    shares = {GPU: (Share(OTHER, 4),), SLICE: (Share(OTHER, 2),)}
    assert counts(sharing(MIXED_NODE, shares)) == {OTHER: {"0": 4, "1:0": 2, "1:1": 2, "2:0": 2}}


def test_sharing_under_the_name_of_another_resource_is_not_shared_again() -> None:
    """A share is of the name before sharing: what comes under a name is as it was made."""
    shares = {SLICE: (Share(GPU, 2),), GPU: (Share(SHARED, 5),)}
    found = counts(sharing(MIXED_NODE, shares))
    assert found == {GPU: {"1:0": 2, "1:1": 2, "2:0": 2}, SHARED: {"0": 5}}


def test_several_entries_share_what_is_left() -> None:
    """Of several entries a device goes by the first that means it."""
    shares = {GPU: (Share(SHARED, 3, ("1",)), Share(OTHER, 2, 2))}
    assert counts(sharing(FOUR, shares)) == {
        SHARED: {"1": 3},
        OTHER: {"0": 2, "2": 2},
        GPU: {"3": 1},
    }


def test_a_device_that_an_earlier_entry_took_is_not_missing() -> None:
    """A list may name a device that goes by an earlier entry, whose share it stays in."""
    found = sharing(FOUR, {GPU: (Share(SHARED, 3, ("0",)), Share(OTHER, 2, ("0", "1")))})
    assert counts(found) == {SHARED: {"0": 3}, OTHER: {"1": 2}, GPU: {"2": 1, "3": 1}}
    assert found.problems == ()


def test_a_share_of_what_is_not_there_is_told() -> None:
    """A share of a name that no device has changes nothing, and is told; several in order."""
    found = sharing(FOUR, {SLICE: (Share(OTHER, 7),), SHARED: (Share(OTHER, 7),)})
    assert found.resources == sharing(FOUR, {}).resources
    assert found.problems == tuple(
        Problem(
            ProblemKind.NOT_SHARED,
            f"cannot share {name}: this node has no device with that resource name",
        )
        for name in (SHARED, SLICE)
    )


@pytest.mark.parametrize(
    ("devices", "missing", "shared"),
    [
        (5, "1 more", {"0", "1", "2", "3"}),
        (9, "5 more", {"0", "1", "2", "3"}),
        (("0", "7"), "7", {"0"}),
        (("7", "0:0"), "7, 0:0", set()),
        ((gpu_uuid(9), gpu_uuid(1)), gpu_uuid(9), {"1"}),
    ],
)
def test_devices_that_are_missing_are_told(
    devices: int | tuple[str, ...], missing: str, shared: set[str]
) -> None:
    """What is selected but not there is told; what is there is shared, and the rest is served."""
    found = sharing(FOUR, {GPU: (Share(SHARED, 2, devices),)})
    text = f"cannot share all configured devices of {GPU}; missing on this node: {missing}"
    assert found.problems == (Problem(ProblemKind.NOT_SHARED, text),)
    left = {
        one.index: one.replicas for r in found.resources if r.resource == GPU for one in r.devices
    }
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
def test_no_device_is_under_two_names(
    shares: dict[str, tuple[Share, ...]], profiles: list[list[str] | None], strategy: MigStrategy
) -> None:
    """However devices are shared, each is advertised exactly once, and always the same way."""
    gpus = [gpu(n) if one is None else mig_gpu(n, *one) for n, one in enumerate(profiles)]
    rules = Rules(mig=strategy, shares=shares)
    found = plan(rules, inventory(*gpus))
    advertised = [device.uuid for resource in found.resources for device in resource.devices]
    whole = [one.uuid for one in gpus if strategy is MigStrategy.NONE or not one.mig_enabled]
    parts = [i.uuid for one in gpus for i in one.instances if one.uuid not in whole]
    refused = any(problem.fatal for problem in found.problems)
    assert sorted(advertised) == ([] if refused else sorted(whole + parts))
    assert all(device.replicas >= 1 for one in found.resources for device in one.devices)
    assert all(one.devices for one in found.resources)
    assert plan(rules, inventory(*gpus)) == found
