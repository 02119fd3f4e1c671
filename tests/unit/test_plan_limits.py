"""The length of device lists, and lists that are too long for the kubelet."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.problem import Problem, ProblemKind
from proto.worker import PlannedDevice, ResourcePlan
from supervisor.config.sharing import MOST_REPLICAS, Share
from supervisor.plan import LIST_LIMIT, Plan, Rules, list_bytes, plan
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_uuid
from workers.devices import replicas
from workers.listing import Listing

GPU = "nvidia.com/gpu"


def encoded(resource: ResourcePlan) -> int:
    """Return the bytes of a worker's list when all its devices are Unhealthy."""
    return len(Listing(replicas(resource)).of({device.uuid for device in resource.devices}))


def device(uuid: str, count: int, numa_node: int | None) -> PlannedDevice:
    """Return a device with *count* replicas."""
    return PlannedDevice(uuid, uuid, count, numa_node=numa_node)


@pytest.mark.parametrize("numa_node", [None, 0, 1, 7, 127])
@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 99, 100, 101, 999, 1000, 1001, 1200])
def test_the_bytes_of_a_list(count: int, numa_node: int | None) -> None:
    """The computed length is that of the encoded list, around each power of ten."""
    resource = ResourcePlan(GPU, (device(gpu_uuid(0), count, numa_node),))
    assert list_bytes(resource) == encoded(resource)


uuids = st.sampled_from([gpu_uuid(0), mig_uuid(0, 1), f"MIG-{gpu_uuid(0)}/7/0", "A" * 20, "short"])
resources = st.lists(
    st.builds(device, uuids, st.integers(1, 1200), st.sampled_from([None, 0, 1])),
    max_size=3,
    unique_by=lambda device: device.uuid,
).map(lambda devices: ResourcePlan(GPU, tuple(devices)))


@settings(deadline=None, max_examples=40)
@given(resources)
def test_the_bytes_of_any_list(resource: ResourcePlan) -> None:
    """The computed length is that of the encoded list, for any devices."""
    assert list_bytes(resource) == encoded(resource)


def test_a_list_is_longest_when_all_are_unhealthy() -> None:
    """The computed length is that of Unhealthy devices; Healthy is 2 bytes shorter each."""
    resource = ResourcePlan(GPU, (device(gpu_uuid(0), 10, 0), device(gpu_uuid(1), 10, 0)))
    healthy = len(Listing(replicas(resource)).of(()))
    assert healthy == list_bytes(resource) - 20 * len("Un")


def shared(count: int) -> Plan:
    """Return the plan of two GPUs, of which the first has *count* replicas."""
    shares = {GPU: (Share("nvidia.com/many", count, 1),)}
    return plan(Rules(shares=shares), inventory(gpu(0), gpu(1)))


def bytes_of(count: int) -> int:
    """Return the computed length of a list of one GPU with *count* replicas."""
    return list_bytes(ResourcePlan(GPU, (device(gpu_uuid(0), count, None),)))


LONGEST = max(count for count in range(60_000, 70_000) if bytes_of(count) <= LIST_LIMIT)


def test_a_list_that_just_fits_is_advertised() -> None:
    """The longest list that the kubelet accepts is advertised."""
    assert LIST_LIMIT - 100 < bytes_of(LONGEST) <= LIST_LIMIT == 4_194_304
    found = shared(LONGEST)
    assert [planned.resource for planned in found.resources] == [GPU, "nvidia.com/many"]
    assert found.problems == ()


@pytest.mark.parametrize(("more", "kinds"), [(0, []), (1, [ProblemKind.LIST_TOO_LONG])])
def test_the_limit_is_exact(more: int, kinds: list[ProblemKind]) -> None:
    """A list of exactly 4 MiB is advertised; a list one byte longer is not."""
    rest = LIST_LIMIT - bytes_of(LONGEST - 1) - bytes_of(1) + len(gpu_uuid(0)) + more
    node = inventory(gpu(0), gpu(1, uuid="x" * rest))
    found = plan(Rules(shares={GPU: (Share(GPU, LONGEST - 1, 1),)}), node)
    assert [problem.kind for problem in found.problems] == kinds
    assert [list_bytes(planned) for planned in found.resources] == ([] if kinds else [LIST_LIMIT])


def test_a_list_that_is_too_long_is_not_advertised() -> None:
    """A list that is too long for the kubelet is a problem; other resources are advertised."""
    found = shared(LONGEST + 1)
    size = bytes_of(LONGEST + 1)
    text = (
        f"cannot advertise nvidia.com/many: the list of its {LONGEST + 1} devices has {size} "
        "bytes, but the kubelet accepts at most 4194304; use fewer replicas"
    )
    assert [planned.resource for planned in found.resources] == [GPU]
    assert found.problems == (Problem(ProblemKind.LIST_TOO_LONG, text),)


def test_the_limit_is_for_all_devices_of_a_resource() -> None:
    """The limit holds for the list of a whole resource, not for each of its GPUs."""
    shares = {GPU: (Share(GPU, LONGEST * 3 // 5),)}
    found = plan(Rules(shares=shares), inventory(gpu(0), gpu(1)))
    assert [problem.kind for problem in found.problems] == [ProblemKind.LIST_TOO_LONG]
    fewer = {GPU: (Share(GPU, LONGEST // 2 - 100),)}
    assert plan(Rules(shares=fewer), inventory(gpu(0), gpu(1))).problems == ()


def test_the_maximum_of_replicas_exceeds_the_list_limit() -> None:
    """The settings' maximum of replicas refuses no list that the kubelet would accept."""
    assert bytes_of(MOST_REPLICAS) > LIST_LIMIT
