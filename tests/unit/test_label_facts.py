"""What only labels tell about a GPU: how the monitor finds it out, and what a failure costs."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from health.driver_facts import find_driver_facts
from health.known_good import with_known_good
from health.label_facts import find_facts, with_facts
from health.nvml import Nvml
from health.vgpu import host_driver
from proto.facts import Fabric, GpuFacts, HostDriver
from simulator.live_node import LiveNode
from simulator.node import (
    SimulatedFabric,
    SimulatedGpu,
    SimulatedHost,
    SimulatedNode,
)
from simulator.node_file import complete
from simulator.nvml import Binding
from simulator.nvml_handles import GpuHandle
from simulator.pci import space
from tests.unit.builders import Driver, gpu, gpu_uuid, refusal

CLUSTER = "5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1f00"
GPU = SimulatedGpu(
    outputs=True,
    fabric=SimulatedFabric(CLUSTER, 7),
    vgpu=SimulatedHost("460.16", "r460_00"),
)
KNOWN = GpuFacts(
    pci_class=0x030000,
    mig_capable=True,
    fabric=Fabric(CLUSTER, 7),
    virtual=True,
    host_driver=HostDriver("460.16", "r460_00"),
)
LOST, NOT_SUPPORTED = 15, 3


def started(folder: Path, simulated: SimulatedGpu = GPU) -> tuple[LiveNode, Binding]:
    """Return a simulated node with one GPU, and the binding to it."""
    live = LiveNode(folder)
    live.start(complete(SimulatedNode((simulated,), cuda_version="12.8")))
    binding = Binding(folder)
    binding.nvmlInit()
    return live, binding


def ask(live: LiveNode, binding: object) -> GpuFacts:
    """Return the facts of the first GPU."""
    return find_facts(Nvml(binding), GpuHandle(gpu_uuid(0)), gpu(), live.sysfs)


def test_a_gpu_tells_all_facts(tmp_path: Path) -> None:
    """Class and virtual GPU come from the kernel, MIG mode and fabric from the driver."""
    live, binding = started(tmp_path)
    assert ask(live, binding) == KNOWN
    assert find_driver_facts(Nvml(binding)).cuda == 12080


FAILURES: dict[str, tuple[str, int, GpuFacts]] = {
    "MIG mode fails": ("nvmlDeviceGetMigMode", LOST, replace(KNOWN, mig_capable=None)),
    "no MIG mode": ("nvmlDeviceGetMigMode", NOT_SUPPORTED, replace(KNOWN, mig_capable=False)),
    "fabric fails": ("nvmlDeviceGetGpuFabricInfoV", LOST, replace(KNOWN, fabric=None)),
    "no fabric": ("nvmlDeviceGetGpuFabricInfoV", NOT_SUPPORTED, replace(KNOWN, fabric=None)),
}


@pytest.mark.parametrize(("call", "code", "expected"), FAILURES.values(), ids=FAILURES)
def test_a_query_that_fails_costs_one_fact(
    tmp_path: Path, call: str, code: int, expected: GpuFacts
) -> None:
    """A query that fails, or that the GPU does not support, leaves the other facts alone."""
    live, binding = started(tmp_path)
    live.fail(0, call, code)
    assert ask(live, binding) == expected


WITHOUT_SPACE = {"answers": (0, True), "is too old": (NOT_SUPPORTED, None), "fails": (LOST, None)}


@pytest.mark.parametrize(("code", "virtual"), WITHOUT_SPACE.values(), ids=WITHOUT_SPACE)
def test_a_configuration_space_that_cannot_be_read(
    tmp_path: Path,
    code: int,
    virtual: bool | None,  # noqa: FBT001 - by pytest
) -> None:
    """Without it, the driver tells whether the GPU is virtual, but not on which host."""
    live, binding = started(tmp_path)
    live.fail(0, "nvmlDeviceGetVirtualizationMode", code)
    device = live.sysfs / "bus/pci/devices" / gpu().pci_bus_id
    unknown = replace(KNOWN, virtual=virtual, host_driver=None)
    (device / "config").write_bytes(space(GPU)[:64])
    assert ask(live, binding) == unknown
    (device / "config").unlink()
    (device / "class").write_text("none\n")
    assert ask(live, binding) == replace(unknown, pci_class=None)


def test_a_driver_without_a_cuda_version() -> None:
    """A driver that does not tell its CUDA version leaves it out."""
    refused = Driver(nvmlSystemGetCudaDriverVersion=refusal(999))
    assert find_driver_facts(Nvml(refused)).cuda is None
    assert find_driver_facts(Nvml(Driver())).cuda is None
    nonsense = Driver(nvmlSystemGetCudaDriverVersion=-1)
    assert find_driver_facts(Nvml(nonsense)).cuda is None


def test_gpus_that_the_driver_must_not_use() -> None:
    """Their PCI addresses are known, as the kernel writes them; without the call there are none."""
    info = SimpleNamespace(pci=SimpleNamespace(busId=b"00000000:41:00.0"))
    told = {"nvmlGetExcludedDeviceInfoByIndex": lambda index: (info,)[index]}
    driver = Driver(nvmlGetExcludedDeviceCount=1, **told)
    assert find_driver_facts(Nvml(driver)).excluded == ("0000:41:00.0",)
    refused = Driver(nvmlGetExcludedDeviceCount=refusal(3))
    assert find_driver_facts(Nvml(refused)).excluded == ()
    assert find_driver_facts(Nvml(Driver())).excluded == ()


def answering(state: int, status: int = 0, uuid: bytes = bytes(range(16))) -> Callable[..., int]:
    """Return a driver's answer about the fabric."""

    def answer(_handle: object, info: Any) -> int:
        info.contents.state, info.contents.status, info.contents.clique = state, status, 4
        info.contents.cluster[:] = uuid
        return 0

    return answer


JOINED, OUTSIDE = Fabric("00010203-0405-0607-0809-0a0b0c0d0e0f", 4), Fabric("", 0, complete=False)
FABRICS = {
    "joined": (answering(3), JOINED),
    "joining": (answering(2), OUTSIDE),
    "not started": (answering(1), OUTSIDE),
    "no fabric": (answering(0), Fabric("", 0)),
    "could not join": (answering(3, status=999), OUTSIDE),
    "of no cluster": (answering(3, uuid=bytes(16)), Fabric("", 0)),
}


@pytest.mark.parametrize("call", ["nvmlDeviceGetGpuFabricInfoV", "nvmlDeviceGetGpuFabricInfo"])
@pytest.mark.parametrize(("answer", "expected"), FABRICS.values(), ids=FABRICS)
def test_fabrics(tmp_path: Path, answer: Callable[..., int], expected: Fabric, call: str) -> None:
    """A GPU is in a fabric once it has joined a cluster without an error; older drivers say so
    in another call.
    """
    driver = Driver(**{call: answer})
    assert find_facts(Nvml(driver), None, gpu(), tmp_path).fabric == expected


def test_a_gpu_that_is_no_longer_in_its_fabric(tmp_path: Path) -> None:
    """The clique of a GPU goes when the driver says so, and stays while it says nothing."""
    known = gpu(facts=KNOWN)
    failed = Driver(nvmlDeviceGetGpuFabricInfoV=answering(3, status=999))
    found = find_facts(Nvml(failed), None, known, tmp_path)
    assert with_facts(known, found).facts.fabric == OUTSIDE
    lost = Driver(nvmlDeviceGetGpuFabricInfoV=refusal(LOST))
    found = find_facts(Nvml(lost), None, known, tmp_path)
    assert with_facts(known, found).facts.fabric == KNOWN.fabric


def test_facts_stay_where_a_query_fails_later() -> None:
    """A fact that was known stays, over a restart too, until the GPU tells another one."""
    known = gpu(facts=KNOWN)
    assert with_facts(known, GpuFacts()).facts == KNOWN
    assert with_facts(known, GpuFacts(virtual=False)).facts.virtual is False
    assert with_known_good(gpu(), [known]).facts == KNOWN
    assert with_known_good(gpu(), [gpu(1, facts=KNOWN)]).facts == GpuFacts()


def damaged(**bytes_at: int) -> bytes:
    """Return the configuration space of a virtual GPU with other bytes, by place."""
    data = bytearray(space(GPU))
    for place, number in bytes_at.items():
        data[int(place[1:], 16)] = number
    return bytes(data)


def other_record_first() -> bytes:
    """Return a space whose first record is not that of the driver."""
    data = bytearray(space(GPU))
    data[0x42] += 4
    data[0x45:0x5F] = b"\x01\x04ab" + bytes(data[0x45:0x5B])
    return bytes(data)


Found = HostDriver | bool | None
SPACES: dict[str, tuple[bytes, Found]] = {
    "virtual": (space(GPU), KNOWN.host_driver),
    "whole GPU": (space(SimulatedGpu()), False),
    "another record first": (other_record_first(), KNOWN.host_driver),
    "another signature": (damaged(x43=0x57), False),
    "another capability": (damaged(x40=0x05), False),
    "no record": (damaged(x42=5), HostDriver()),
    "a record without length": (damaged(x45=1, x46=0), HostDriver()),
    "a circle": (damaged(x40=0x05, x41=0x40), False),
    "the first 64 bytes": (space(GPU)[:64], None),
    "the first 64 bytes without capabilities": (space(SimulatedGpu())[:64], False),
    "a device that is gone": (b"\xff" * 256, None),
    "nothing": (b"", None),
}


@pytest.mark.parametrize(("data", "expected"), SPACES.values(), ids=SPACES)
def test_virtual_gpus(data: bytes, expected: Found) -> None:
    """A virtual GPU is known by a capability in its configuration space, however damaged."""
    assert host_driver(data) == expected
