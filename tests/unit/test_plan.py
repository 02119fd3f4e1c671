"""What a node advertises under which name."""

import pytest

from proto.control import PlannedDevice, ResourcePlan
from proto.messages import FailedGpu
from supervisor.plan import BY_MEMORY, Share, plan
from tests.unit.builders import gpu, gpu_uuid, inventory

FIRST, SECOND = gpu_uuid(0), gpu_uuid(1)


def test_an_unshared_node_advertises_whole_gpus() -> None:
    """Without any setting each GPU is one device of nvidia.com/gpu, on its own NUMA node."""
    node = inventory(gpu(0, numa_node=0), gpu(1, numa_node=1), gpu(2))
    devices = (
        PlannedDevice(FIRST, FIRST, 1, 0),
        PlannedDevice(SECOND, SECOND, 1, 1),
        PlannedDevice(gpu_uuid(2), gpu_uuid(2), 1, None),
    )
    assert plan({}, node) == (ResourcePlan("nvidia.com/gpu", devices),)


def test_a_shared_resource_has_its_new_name_and_replicas() -> None:
    """A resource that is shared appears under the new name only, each device replicated."""
    expected = ResourcePlan(
        "nvidia.com/gpu.shared",
        (PlannedDevice(FIRST, FIRST, 4), PlannedDevice(SECOND, SECOND, 4)),
    )
    assert plan({"gpu": Share("gpu.shared", 4)}, inventory(gpu(0), gpu(1))) == (expected,)


@pytest.mark.parametrize(
    ("memory", "replicas"),
    [(81559, 81), (40960, 40), (1999, 1), (1000, 1), (999, 1), (None, 1)],
    ids=["H100", "A100", "under two units", "one unit", "under one unit", "unknown"],
)
def test_replicas_by_memory(memory: int | None, replicas: int) -> None:
    """With -1 a device has a replica for each whole 1000 MiB, and one where that is not known."""
    (resource,) = plan({"gpu": Share("gpu", BY_MEMORY)}, inventory(gpu(memory_mib=memory)))
    assert [device.replicas for device in resource.devices] == [replicas]


def test_replicas_go_by_each_devices_own_memory() -> None:
    """On a node of unequal GPUs each has as many replicas as its own memory makes."""
    node = inventory(gpu(0, memory_mib=24576), gpu(1, memory_mib=81559))
    (resource,) = plan({"gpu": Share("gpu", BY_MEMORY)}, node)
    assert [device.replicas for device in resource.devices] == [24, 81]


def test_a_number_of_replicas_does_not_depend_on_memory() -> None:
    """A plain number of replicas holds for a device of unknown memory, too."""
    (resource,) = plan({"gpu": Share("gpu", 3)}, inventory(gpu(memory_mib=None)))
    assert [device.replicas for device in resource.devices] == [3]


def test_a_node_without_gpus_advertises_nothing() -> None:
    """Without a GPU that works there is no resource, not an empty one."""
    assert plan({"gpu": Share("shared", 2)}, inventory(failed=(FailedGpu(0, "lost"),))) == ()


def test_a_gpu_that_failed_is_not_planned() -> None:
    """A GPU that could not be enumerated is no device, the others are."""
    (resource,) = plan({}, inventory(gpu(1), failed=(FailedGpu(0, "lost"),)))
    assert [device.uuid for device in resource.devices] == [SECOND]


def test_a_share_of_another_resource_changes_nothing() -> None:
    """A resource that no setting names stays as it is."""
    shares = {"mig-1g.10gb": Share("slice", 7)}
    assert plan(shares, inventory(gpu())) == plan({}, inventory(gpu()))
