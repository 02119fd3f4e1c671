"""The inventory of a node, with the simulated NVML binding."""

from collections.abc import Callable
from pathlib import Path

import pytest

from health.enumeration import SystemRoots, profile_in, profile_of
from health.nvml import Nvml
from proto import messages
from proto.facts import GpuFacts, MigAttributes
from proto.messages import FailedGpu, Inventory, Link, LinkLevel, MigInstance
from simulator import node as simulated
from simulator.live_node import LiveNode
from simulator.node import SimulatedGpu, SimulatedNode
from simulator.node_file import complete, default_node
from simulator.nvml import Binding
from simulator.nvml_handles import GpuHandle, MigHandle, NVMLError
from tests.unit.builders import gpu_uuid
from tests.unit.enumerated import take

Function = Callable[..., object]


def refuse(code: int) -> Function:
    """Return a function that always fails with this NVML return code."""

    def function(*_: object) -> object:
        raise NVMLError(code)

    return function


def found(
    folder: Path,
    *gpus: SimulatedGpu,
    links: tuple[simulated.SimulatedLink, ...] = (),
    **functions: Function,
) -> Inventory:
    """Return the inventory of a simulated node; *functions* replace those of its driver."""
    live = LiveNode(folder)
    live.start(complete(SimulatedNode(gpus, links=links)))
    binding = Binding(folder)
    vars(binding).update(functions)
    nvml = Nvml(binding)
    nvml.start()
    return take(nvml, SystemRoots(live.sysfs, live.procfs, (folder,)))


def test_a_gpu_has_the_drivers_answers(tmp_path: Path) -> None:
    """A GPU in the inventory has the driver's answers and the kernel's NUMA node."""
    gpu = SimulatedGpu(
        uuid="GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000",
        name="Tesla T4",
        memory_mib=15360,
        pci_bus_id="abcd:0e:00.0",
        numa_node=1,
        compute_capability="7.5",
        events=False,
    )
    node = found(tmp_path, SimulatedGpu(), gpu)
    assert (node.driver_version, len(node.gpus), node.failed) == ("580.95.05", 2, ())
    assert node.gpus[1] == messages.Gpu(
        uuid="GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1000",
        index=1,
        minor=1,
        pci_bus_id="abcd:0e:00.0",
        name="Tesla T4",
        memory_mib=15360,
        numa_node=1,
        compute_capability="7.5",
        events=False,
        ecc=True,
        facts=GpuFacts(pci_class=0x030200, mig_capable=False, virtual=False),
    )


def test_unsupported_properties_are_none(tmp_path: Path) -> None:
    """A GPU without own memory, minor number and MIG is listed without them."""
    (gpu,) = found(
        tmp_path,
        SimulatedGpu(),
        nvmlDeviceGetMemoryInfo=refuse(3),
        nvmlDeviceGetCudaComputeCapability=refuse(3),
        nvmlDeviceGetMinorNumber=refuse(3),
        nvmlDeviceGetMigMode=refuse(3),
    ).gpus
    assert (gpu.minor, gpu.compute_capability) == (None, None)
    assert gpu.unified_memory
    assert gpu.memory_mib == SimulatedNode(()).system_memory_mib
    assert (gpu.mig_enabled, gpu.instances) == (False, ())
    assert gpu.name == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    "name", [Binding.nvmlDeviceGetName, lambda *_: "NVIDIA H100"], ids=["by name", "by size"]
)
def test_mig_instances(tmp_path: Path, name: Callable[[Binding, object], str]) -> None:
    """A MIG instance has its place, IDs, memory, and its profile by name or by size."""
    gpu = SimulatedGpu(memory_mib=81920, mig=("1g.10gb", "3g.40gb", "1c.3g.40gb"))
    binding = Binding(tmp_path)
    (shown,) = found(tmp_path, gpu, nvmlDeviceGetName=lambda handle: name(binding, handle)).gpus
    uuids = [complete(SimulatedNode((gpu,))).gpus[0].mig_uuid(place) for place in range(3)]
    assert shown.mig_enabled is True
    assert shown.instances == (
        MigInstance(
            uuids[0], 0, 7, 0, "1g.10gb", 10240, (3, 4), MigAttributes(16, 1, 1, 1, 1, 0, 1, 0)
        ),
        MigInstance(
            uuids[1], 1, 8, 0, "3g.40gb", 40960, (5, 6), MigAttributes(48, 3, 3, 3, 3, 0, 3, 0)
        ),
        MigInstance(
            uuids[2], 2, 9, 0, "1c.3g.40gb", 40960, (7, 8), MigAttributes(16, 3, 1, 3, 3, 0, 3, 0)
        ),
    )


def test_an_instance_of_unknown_size_has_no_profile(tmp_path: Path) -> None:
    """A MIG instance whose profile and size are unknown is listed without them."""
    (gpu,) = found(
        tmp_path,
        SimulatedGpu(mig=("1g.10gb",)),
        nvmlDeviceGetName=lambda _: "NVIDIA H100",
        nvmlDeviceGetAttributes=refuse(3),
    ).gpus
    assert [(instance.profile, instance.memory_mib) for instance in gpu.instances] == [("", None)]


def test_mig_mode_without_instances(tmp_path: Path) -> None:
    """The inventory tells a GPU in MIG mode without instances from a GPU not in MIG mode."""
    gpus = found(tmp_path, SimulatedGpu(mig=()), SimulatedGpu()).gpus
    assert [(gpu.mig_enabled, gpu.instances) for gpu in gpus] == [(True, ()), (False, ())]


def test_mig_instances_after_a_gap_are_found(tmp_path: Path) -> None:
    """A MIG instance after an empty place is found."""

    def behind_a_gap(gpu: GpuHandle, place: int) -> MigHandle:
        if place != 1:
            raise NVMLError(6)
        return MigHandle(gpu.uuid, place)

    (gpu,) = found(
        tmp_path,
        SimulatedGpu(mig=("1g.10gb", "1g.10gb")),
        nvmlDeviceGetMigDeviceHandleByIndex=behind_a_gap,
    ).gpus
    assert [(instance.place, instance.gi) for instance in gpu.instances] == [(1, 8)]


LOST = "cannot call {}: GPU is lost (NVML error 15)"


def test_a_gpu_that_is_lost_at_the_start(tmp_path: Path) -> None:
    """A GPU without a handle is reported as failed, and the other GPUs keep their index."""
    live = LiveNode(tmp_path)
    live.start(complete(SimulatedNode((SimulatedGpu(), SimulatedGpu(), SimulatedGpu()))))
    live.lose(1)
    nvml = Nvml(Binding(tmp_path))
    nvml.start()
    node = take(nvml, SystemRoots(live.sysfs, live.procfs, (tmp_path,)))
    assert [gpu.uuid for gpu in node.gpus] == [gpu_uuid(0), gpu_uuid(2)]
    assert [gpu.index for gpu in node.gpus] == [0, 2]
    error = LOST.format("nvmlDeviceGetHandleByIndex")
    assert node.failed == (FailedGpu(1, error, 15),)


def test_a_gpu_that_is_lost_while_it_is_described(tmp_path: Path) -> None:
    """A GPU that is lost while it is described is reported as failed, not listed by half."""

    def name(gpu: GpuHandle) -> str:
        if gpu.uuid == gpu_uuid(1):
            raise NVMLError(15)
        return "NVIDIA H100"

    node = found(tmp_path, SimulatedGpu(), SimulatedGpu(), SimulatedGpu(), nvmlDeviceGetName=name)
    assert [gpu.index for gpu in node.gpus] == [0, 2]
    assert node.failed == (FailedGpu(1, LOST.format("nvmlDeviceGetName"), 15),)


def test_a_node_without_gpus(tmp_path: Path) -> None:
    """A node without GPUs has an empty inventory and no error."""
    assert found(tmp_path) == Inventory("580.95.05", (), cuda_version=13000)


def link(first: int, second: int, level: LinkLevel, nvlinks: int) -> Link:
    """Return a link between the GPUs with these indices."""
    return Link(gpu_uuid(first), gpu_uuid(second), level, nvlinks)


def test_direct_links(tmp_path: Path) -> None:
    """Each pair of GPUs that is nearer than SYS or has NVLinks is one link."""
    links = (
        simulated.SimulatedLink((0, 1), LinkLevel.PIX, 2),
        simulated.SimulatedLink((2, 0), LinkLevel.SYS, 4),
        simulated.SimulatedLink((1, 2), LinkLevel.NODE),
        simulated.SimulatedLink((0, 3), LinkLevel.SYS),
    )
    node = found(tmp_path, *[SimulatedGpu()] * 4, links=links)
    assert node.links == (
        link(0, 1, LinkLevel.PIX, 2),
        link(0, 2, LinkLevel.SYS, 4),
        link(1, 2, LinkLevel.NODE, 0),
    )


def test_links_over_a_switch(tmp_path: Path) -> None:
    """On a DGX, each pair of GPUs has all 18 NVLinks through the NVSwitch."""
    node = default_node()
    found_links = found(tmp_path, *node.gpus, links=node.links).links
    assert len(found_links) == 28
    assert {link.nvlinks for link in found_links} == {18}
    levels = {(link.first, link.second): link.level for link in found_links}
    assert levels[gpu_uuid(0), gpu_uuid(3)] is LinkLevel.NODE
    assert levels[gpu_uuid(3), gpu_uuid(4)] is LinkLevel.SYS


def test_a_gpu_without_nvswitch_has_no_links(tmp_path: Path) -> None:
    """A GPU without NVLinks to the NVSwitch is linked to no other GPU."""
    links = (
        simulated.SimulatedLink((0, 1), LinkLevel.SYS, 18),
        simulated.SimulatedLink((0, 2), LinkLevel.SYS, 18),
        simulated.SimulatedLink((1, 2), LinkLevel.SYS, 18),
    )
    told = found(tmp_path, *[SimulatedGpu()] * 4, links=links).links
    assert [(link.first, link.second) for link in told] == [
        (gpu_uuid(0), gpu_uuid(1)),
        (gpu_uuid(0), gpu_uuid(2)),
        (gpu_uuid(1), gpu_uuid(2)),
    ]


def test_gpus_are_listed_when_links_cannot_be_read(tmp_path: Path) -> None:
    """GPUs whose links cannot be read are listed without links."""
    node = found(
        tmp_path,
        SimulatedGpu(),
        SimulatedGpu(),
        links=(simulated.SimulatedLink((0, 1), LinkLevel.PIX, 2),),
        nvmlDeviceGetNvLinkState=refuse(15),
        nvmlDeviceGetTopologyCommonAncestor=refuse(15),
    )
    assert (len(node.gpus), node.failed, node.links) == (2, (), ())


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "1g.10gb"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb+me", "1g.10gb+me"),
        ("NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb", "1c.3g.20gb"),
        ("NVIDIA H100 80GB HBM3", ""),
        ("MIG 1g.10gb of a GPU", ""),
        ("", ""),
    ],
)
def test_profile_in(name: str, profile: str) -> None:
    """The profile is the end of a MIG device's name, after `MIG`."""
    assert profile_in(name) == profile


@pytest.mark.parametrize(
    ("slices", "memory", "gpu_memory", "profile"),
    [
        ((1, 1), 4864, 40960, "1g.5gb"),
        ((2, 2), 9856, 40960, "2g.10gb"),
        ((3, 3), 19968, 40960, "3g.20gb"),
        ((4, 4), 19968, 40960, "4g.20gb"),
        ((7, 7), 40192, 40960, "7g.40gb"),
        ((1, 1), 9984, 81559, "1g.10gb"),
        ((1, 1), 20096, 81559, "1g.20gb"),
        ((3, 3), 40448, 81559, "3g.40gb"),
        ((3, 1), 40448, 81559, "1c.3g.40gb"),
        ((3, 2), 40448, 81559, "2c.3g.40gb"),
        ((7, 7), 81152, 81559, "7g.80gb"),
        ((1, 1), 5952, 24258, "1g.6gb"),
        ((4, 4), 24125, 24258, "4g.24gb"),
        ((1, 1), 16384, 143771, "1g.18gb"),
        ((2, 2), 33280, 143771, "2g.35gb"),
        ((1, 1), 11008, 95830, "1g.12gb"),
        ((3, 3), 71000, 143771, "3g.71gb"),
        ((1, 1), 22000, 183359, "1g.23gb"),
    ],
)
def test_profile_of(slices: tuple[int, int], memory: int, gpu_memory: int, profile: str) -> None:
    """Slices and memory give the profile's name, with memory in eighths as at NVIDIA."""
    assert profile_of(*slices, memory, gpu_memory) == profile
