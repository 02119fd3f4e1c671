"""The labels of a node where NVIDIA's are unstable, illegal, or not there at all."""

import itertools

import pytest
from msgspec import structs

from proto.advertising import Advertised, Advertising, MigStrategy, SharingStrategy
from proto.facts import Fabric, GpuFacts, HostDriver
from proto.messages import FailedGpu, Gpu, Inventory
from proto.mps import MpsShare
from proto.worker import PlannedDevice, ResourcePlan
from supervisor.advertising import advertising
from supervisor.config.sharing import from_flag
from supervisor.labels.catalogue import CATALOGUE, known
from supervisor.labels.gpu_instances import gpu_instances
from supervisor.labels.machine_labels import MachineFacts
from supervisor.labels.node_labels import labels
from supervisor.plan import Plan, Rules
from tests.unit.builders import gpu, gpu_uuid, mig_gpu, mig_uuid
from tests.unit.labelled import labels_of, part, rules, told, twice, uuids

H100, T4 = "NVIDIA H100 80GB HBM3", "Tesla T4"


def test_all_labels_of_a_node() -> None:
    """A node with a GPU has these labels, in this order."""
    facts = GpuFacts(0x030200, mig_capable=True, fabric=Fabric("c1-u", 3), virtual=False)
    found = labels_of([gpu(facts=facts)], facts=MachineFacts("DGX H100", 1700000000))
    assert list(found.items()) == [
        ("cuda.driver-version.full", "580.95.05"),
        ("cuda.driver-version.major", "580"),
        ("cuda.driver-version.minor", "95"),
        ("cuda.driver-version.revision", "05"),
        ("cuda.driver.major", "580"),
        ("cuda.driver.minor", "95"),
        ("cuda.driver.rev", "05"),
        ("cuda.runtime-version.full", "13.0"),
        ("cuda.runtime-version.major", "13"),
        ("cuda.runtime-version.minor", "0"),
        ("cuda.runtime.major", "13"),
        ("cuda.runtime.minor", "0"),
        ("gfd.timestamp", "1700000000"),
        ("gpu.clique", "c1-u.3"),
        ("gpu.compute.major", "9"),
        ("gpu.compute.minor", "0"),
        ("gpu.count", "1"),
        ("gpu.family", "hopper"),
        ("gpu.machine", "DGX-H100"),
        ("gpu.memory", "81559"),
        ("gpu.mode", "compute"),
        ("gpu.product", "NVIDIA-H100-80GB-HBM3"),
        ("gpu.replicas", "1"),
        ("gpu.sharing-strategy", "none"),
        ("mig.capable", "true"),
        ("mps.capable", "false"),
        ("vgpu.present", "false"),
    ]


def test_a_node_without_gpus() -> None:
    """A node without GPUs has no virtual one; before the driver answers nobody knows even that."""
    when = MachineFacts("DGX", 5)
    assert labels_of([], facts=when) == {"gfd.timestamp": "5", "vgpu.present": "false"}
    display = gpu(name="NVIDIA DGX Display")
    assert labels_of([display]) == {"vgpu.present": "false"}
    assert labels(Inventory("", ()), Advertising()) == {}


def test_a_driver_that_has_not_answered() -> None:
    """The GPUs that are known from before have labels, the driver has none."""
    found = labels(Inventory("", (gpu(),)), Advertising())
    assert found["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert not [key for key in found if "cuda" in key]


VERSIONS = {
    "580.95.05": ("580", "95", "05"),
    "580.95": ("580", "95", ""),
    "580": ("580", "", ""),
    "535.1.2.3": ("535", "1", "2.3"),
    "580.(odd).-x-": ("580", "odd", "x"),
}


@pytest.mark.parametrize(("version", "parts"), VERSIONS.items())
def test_driver_versions(version: str, parts: tuple[str, str, str]) -> None:
    """A driver version of any form costs no label of a GPU, and gives legal values."""
    found = labels(Inventory(version, (gpu(),)), Advertising())
    keys = ("major", "minor", "revision")
    assert tuple(found[f"nvidia.com/cuda.driver-version.{key}"] for key in keys) == parts


def several() -> list[Gpu]:
    """Return three H100 and a T4 at index 0."""
    card = gpu(0, name=T4, memory_mib=15360, compute_capability="7.5")
    return [card, *map(gpu, range(1, 4))]


def test_the_most_numerous_model_wins() -> None:
    """With several models the labels are those of the most numerous one, with a count for each."""
    found = labels_of(several())
    assert found["gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert (found["gpu.count"], found["gpu.memory"], found["gpu.family"]) == (
        "3",
        "81559",
        "hopper",
    )
    assert found["gpu.NVIDIA-H100-80GB-HBM3.count"] == "3"
    assert found["gpu.Tesla-T4.count"] == "1"


def test_of_equally_many_the_lower_place_wins() -> None:
    """Of two models with as many GPUs, the one with the lowest PCI bus ID counts, also when the
    driver numbers them otherwise.
    """
    both = several()[:2]
    card, other = (structs.replace(gpu, index=1 - gpu.index) for gpu in both)
    for order in (both, both[::-1], [other, card]):
        assert labels_of(order)["gpu.product"] == "Tesla-T4"


def test_the_order_of_the_gpus_changes_nothing() -> None:
    """The same node gives the same labels in the same order, however its GPUs are listed."""
    gpus = [*several(), mig_gpu(4, "1g.10gb", "3g.40gb", name="A"), mig_gpu(5, "1g.10gb", name="B")]
    by = rules(MigStrategy.MIXED, twice("nvidia.com/gpu"))
    texts = {str(labels_of(order, by)) for order in itertools.permutations(gpus)}
    assert len(texts) == 1


def test_one_gpu_that_tells_nothing() -> None:
    """A GPU whose queries fail is counted; the other GPUs tell all that is common."""
    facts = GpuFacts(0x030200, mig_capable=False, fabric=Fabric("c", 1), virtual=False)
    good = gpu(1, facts=facts)
    bad = gpu(0, memory_mib=None, compute_capability=None)
    found = labels_of([bad, good])
    assert found == labels_of([gpu(0, facts=facts), good])
    assert labels_of([gpu(0)]).keys().isdisjoint({"mig.capable", "vgpu.present", "gpu.clique"})


def test_a_fabric_that_differs_has_no_label() -> None:
    """GPUs of two cliques give no clique; a GPU that has not joined a fabric is left out."""
    near, far = (GpuFacts(fabric=Fabric("c", n)) for n in range(2))
    late = GpuFacts(fabric=Fabric("", 0, complete=False))
    assert labels_of([gpu(0, facts=near), gpu(1, facts=late)])["gpu.clique"] == "c.0"
    assert "gpu.clique" not in labels_of([gpu(0, facts=near), gpu(1, facts=far)])
    outside = GpuFacts(fabric=Fabric("", 0))
    assert labels_of([gpu(0, facts=near), gpu(1, facts=outside)])["gpu.clique"] == "c.0"
    for none in (late, outside):
        assert "gpu.clique" not in labels_of([gpu(0, facts=none)])


def test_a_virtual_gpu() -> None:
    """A virtual GPU tells of its host's driver, as far as it knows."""
    silent = GpuFacts(virtual=True, host_driver=HostDriver())
    telling = GpuFacts(virtual=True, host_driver=HostDriver("460.16", "r460_00"))
    found = labels_of([gpu(0, facts=telling), gpu(1, facts=silent)])
    assert found["vgpu.present"] == "true"
    assert found["vgpu.host-driver-version"] == "460.16"
    assert found["vgpu.host-driver-branch"] == "r460_00"
    assert "vgpu.host-driver-version" not in labels_of([gpu(facts=silent)])


def test_gpus_that_cannot_be_asked_are_not_said_to_be_whole() -> None:
    """Nobody knows whether a GPU is virtual that cannot be enumerated; no GPU at all is not."""
    lost = Inventory("580.95.05", (), failed=(FailedGpu(0, "GPU is lost"),))
    assert labels(lost, Advertising()) == {}
    assert labels(Inventory("580.95.05", ()), Advertising()) == {"nvidia.com/vgpu.present": "false"}


def test_profiles_have_keys_of_their_own() -> None:
    """In MIG strategy mixed each profile has its labels; + becomes a dot; odd ones stay legal."""
    odd = mig_gpu(0, "1g.10gb+me", "1g.10gb", name=H100)
    found = labels_of([odd], rules(MigStrategy.MIXED))
    assert found["mig-1g.10gb.me.product"] == "NVIDIA-H100-80GB-HBM3-MIG-1g.10gbme"
    assert (found["mig-1g.10gb.count"], found["mig-1g.10gb.me.count"]) == ("1", "1")
    assert (found["gpu.count"], found["gpu.replicas"]) == ("1", "0")
    unnamed = structs.replace(part(0, 0, (1, 1), 10), profile="", attributes=None)
    nameless = labels_of([gpu(mig_enabled=True, instances=(unnamed,))], rules(MigStrategy.MIXED))
    assert nameless["mig-unknown.product"] == "NVIDIA-H100-80GB-HBM3-MIG-unknown"
    assert "mig-unknown.multiprocessors" not in nameless


def test_sharing_of_some_gpus() -> None:
    """Where only some GPUs of a model are shared, how most of them are shared counts."""
    most = Advertised("nvidia.com/gpu", uuids(2), 4, SharingStrategy.TIME_SLICING)
    rest = Advertised("nvidia.com/gpu", (gpu_uuid(2),))
    found = labels_of(list(map(gpu, range(3))), Advertising(resources=(rest, most)))
    assert (found["gpu.replicas"], found["gpu.sharing-strategy"]) == ("4", "time-slicing")
    assert found["gpu.product"].endswith("-SHARED")


def test_a_gpu_that_is_not_advertised() -> None:
    """A GPU under no resource has no replica."""
    found = labels_of([gpu()], Advertising())
    assert (found["gpu.count"], found["gpu.replicas"]) == ("1", "0")


def test_resource_config_by_memory() -> None:
    """--resource-config renames the resource: its replicas are told, the product has no suffix."""
    by = Rules(shares=from_flag("gpu:gpu-mem-gb:-1"))
    found = labels_of([gpu()], by)
    assert (found["gpu.replicas"], found["gpu.sharing-strategy"]) == ("81", "time-slicing")
    assert found["gpu.product"] == "NVIDIA-H100-80GB-HBM3"
    assert not told([gpu()], Rules(shares=from_flag("gpu:gpu:2"))).resources[0].renamed


def test_the_plan_tells_how_a_device_is_shared() -> None:
    """A device that MPS shares is told apart from one with time-slicing, and from one alone."""
    node = Inventory("", tuple(map(gpu, range(3))))
    devices = (
        PlannedDevice(gpu_uuid(0), gpu_uuid(0), 2, mps=MpsShare()),
        PlannedDevice(gpu_uuid(1), gpu_uuid(1), 2),
        PlannedDevice(gpu_uuid(2), gpu_uuid(2), 1, mps=MpsShare()),
    )
    made = advertising(Rules(), node, Plan((ResourcePlan("nvidia.com/gpu", devices),)))
    assert [shared.strategy for shared in made.resources] == ["mps", "time-slicing", "none"]
    assert labels(node, made)["nvidia.com/mps.capable"] == "true"


def test_healthy_count() -> None:
    """If asked for, a label tells how many of the counted devices are Healthy."""
    assert "gpu.healthy-count" not in labels_of([gpu()])
    assert labels_of(several(), healthy=uuids(2))["gpu.healthy-count"] == "1"
    slices = mig_gpu(0, "1g.10gb", "1g.10gb")
    single = rules(MigStrategy.SINGLE)
    found = labels_of([slices], single, healthy={gpu_uuid(0), mig_uuid(0, 1)})
    assert (found["gpu.count"], found["gpu.healthy-count"]) == ("2", "1")
    invalid = labels_of([slices, gpu(1)], single, healthy=uuids(2))
    assert (invalid["gpu.count"], invalid["gpu.healthy-count"]) == ("0", "0")


def test_instances_of_node_feature() -> None:
    """Each GPU has its facts as attributes, without those that nobody knows."""
    bare = gpu(1, memory_mib=None)
    node = Inventory("", (bare, gpu(0, numa_node=0), gpu(2, name="DGX Display")))
    first, second = gpu_instances(node)
    assert first == {
        "uuid": gpu_uuid(0),
        "index": "0",
        "model": H100,
        "memory": "81559",
        "pci": "0000:01:00.0",
        "numa": "0",
    }
    assert second.keys() == first.keys() - {"memory", "numa"}


def test_no_timestamp_by_default() -> None:
    """Facts of the machine that nobody gives leave their labels out, or unknown."""
    found = labels_of([gpu()], facts=MachineFacts())
    assert found["gpu.machine"] == "unknown"
    assert "gfd.timestamp" not in found


def test_every_label_of_the_catalogue_exists() -> None:
    """Each documented label is one that some node has."""
    told_all = GpuFacts(
        pci_class=0x030200,
        mig_capable=True,
        fabric=Fabric("c", 1),
        virtual=True,
        host_driver=HostDriver("460.16", "r460_00"),
    )
    sliced = gpu(0, facts=told_all, mig_enabled=True, instances=(part(0, 0, (1, 1), 10),))
    when = MachineFacts("DGX", 1)
    found = set(labels_of([sliced], rules(MigStrategy.SINGLE), when, healthy=()))
    found |= set(labels_of([sliced, *several()], rules(MigStrategy.MIXED), when))
    assert {label.key for key in found for label in known(key)} == {
        label.key for label in CATALOGUE
    }
