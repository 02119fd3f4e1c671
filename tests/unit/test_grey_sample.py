"""Samples for grey failures: what a GPU is asked for and when, and each drill of the simulator."""

import shutil
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from health.grey_watch import GreyWatch
from health.nvml import Code, Nvml
from health.pci import on_bus
from health.usage import Known, sample
from proto.facts import Fabric, GpuFacts
from proto.grey import GreyFailure, GreySettings
from proto.messages import Gpu
from proto.reasons import Reason, ReasonKind
from simulator import nvml as simulated
from simulator.live_node import LiveNode
from simulator.node import GREY, MISSING, SimulatedFabric, SimulatedGpu, SimulatedNode
from simulator.node_file import complete
from simulator.usage import Use
from tests.unit.builders import Driver, gpu, gpu_uuid, inventory, mig_gpu, refusal

FABRIC = Fabric("5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1f00", 1)
JOINED = GpuFacts(fabric=FABRIC)
NODE = complete(SimulatedNode((SimulatedGpu(fabric=SimulatedFabric(FABRIC.cluster)),) * 2))

AT_ONCE = GreySettings(after=0.0)
"""A failure begins and ends with one sample."""

CALLS = {
    "nvmlDeviceGetCurrPcieLinkWidth": 8,
    "nvmlDeviceGetMaxPcieLinkWidth": 16,
    "nvmlDeviceGetCurrPcieLinkGeneration": 5,
    "nvmlDeviceGetMaxPcieLinkGeneration": 5,
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0x48,
    "nvmlDeviceGetPersistenceMode": 1,
    "nvmlDeviceGetTotalEccErrors": 7,
}
"""What a driver before 535 tells; it does not know the newer name of the event reasons."""


class Counting(Driver):
    """A driver that counts the calls of its functions."""

    def __init__(self, **answers: object) -> None:
        super().__init__(**answers)
        self.calls: Counter[str] = Counter()

    def __getattribute__(self, name: str) -> object:
        if name.startswith("nvml"):
            self.calls[name] += 1
        return super().__getattribute__(name)


def test_an_old_driver() -> None:
    """What the driver tells is in the sample, and what it does not know is not asked again."""
    driver = Counting(**CALLS, nvmlDeviceGetRowRemapperHistogram=refusal(Code.NOT_SUPPORTED))
    nvml = Nvml(driver)
    first = sample(nvml, "a handle", replace(gpu(), facts=JOINED), Known())
    assert first.grey
    assert first.grey.link
    assert (first.grey.link.width, first.grey.link.most_width) == (8, 16)
    assert first.grey.event_reasons == 0x48
    assert (first.grey.persistence, first.grey.corrected) == (True, 7)
    assert first.grey.banks_without_spare is None
    assert first.grey.fabric_health == 0
    sample(nvml, "a handle", replace(gpu(), facts=JOINED), first.known, thoroughly=0.0)
    assert driver.calls["nvmlDeviceGetRowRemapperHistogram"] == 1
    assert driver.calls["nvmlDeviceGetCurrentClocksEventReasons"] <= 1
    assert driver.calls["nvmlDeviceGetGpuFabricInfoV"] <= 1
    assert driver.calls["nvmlDeviceGetPersistenceMode"] == 2


def test_what_changes_seldom() -> None:
    """An idle GPU is asked for little, and once a minute for what changes seldom."""
    driver = Counting(**CALLS)
    first = sample(Nvml(driver), "a handle", gpu(), Known())
    driver.calls.clear()
    second = sample(Nvml(driver), "a handle", gpu(), first.known)
    assert not driver.calls.keys() & {*CALLS} - {"nvmlDeviceGetCurrentClocksThrottleReasons"}
    assert second.grey
    assert (second.grey.link, second.grey.persistence) == (None, None)
    assert second.known.thorough_at == first.known.thorough_at


def test_a_lost_gpu() -> None:
    """A GPU that is lost during the sample gives none."""
    lost = Counting(**{**CALLS, "nvmlDeviceGetPersistenceMode": refusal(Code.GPU_IS_LOST)})
    assert sample(Nvml(lost), "a handle", gpu(), Known()).grey is None


def seen(folder: Path, watch: GreyWatch, known: Gpu) -> list[str]:
    """Return the grey failures of the first GPU after one more sample."""
    nvml = Nvml()
    nvml.load(simulated.__name__, str(folder))
    nvml.start()
    handle = nvml.call("nvmlDeviceGetHandleByIndex", 0)
    found = sample(nvml, handle, known, Known()).grey
    assert found
    watch.take(known.uuid, found)
    return [failure.reason.kind.value for failure in watch.failures(inventory(known))]


@pytest.mark.parametrize("end", ["recover", "reset"])
@pytest.mark.parametrize("failure", [kind for kind in GREY if kind != MISSING])
def test_each_drill(tmp_path: Path, failure: str, end: str) -> None:
    """Each drill causes its failure and no other, and two others end it."""
    node, watch = LiveNode(tmp_path), GreyWatch(AT_ONCE)
    known = replace(gpu(), facts=JOINED)
    node.start(NODE)
    node.use(0, Use(1024, 90))
    assert seen(tmp_path, watch, known) == []
    node.fail_grey(0, failure)
    now = seen(tmp_path, watch, known)
    assert (now or seen(tmp_path, watch, known)) == [failure]
    (node.recover if end == "recover" else node.reset)(0)
    assert seen(tmp_path, watch, known) == []


@pytest.mark.parametrize("failure", ["pcie", "clocks"])
def test_a_drill_on_an_idle_gpu(tmp_path: Path, failure: str) -> None:
    """An idle GPU does not show that its link and clocks are low for a reason."""
    node, watch = LiveNode(tmp_path), GreyWatch(AT_ONCE)
    node.start(NODE)
    node.fail_grey(0, failure)
    assert seen(tmp_path, watch, gpu()) == []


def test_the_drill_of_a_missing_gpu(tmp_path: Path) -> None:
    """The PCI bus shows a GPU that no driver has, and all others have the failure."""
    node, watch = LiveNode(tmp_path), GreyWatch(AT_ONCE)
    node.start(NODE)
    node.fail_grey(1, MISSING)
    nvml = Nvml()
    nvml.load(simulated.__name__, str(tmp_path))
    nvml.start()
    assert nvml.gpu_count() == 1
    watch.compare(on_bus(node.sysfs), inventory(gpu(0)), 5.0)
    why = Reason(ReasonKind.GPU_MISSING, "0000:02:00.0")
    assert watch.failures(inventory(gpu(0))) == (GreyFailure(gpu_uuid(0), why),)
    node.recover(1)
    watch.compare(on_bus(node.sysfs), inventory(gpu(0), gpu(1)), 6.0)
    assert watch.failures(inventory(gpu(0))) == ()


def test_which_devices_are_ours(tmp_path: Path) -> None:
    """GPUs count that NVIDIA's driver has or refused, not those that another driver has."""
    devices = tmp_path / "bus/pci/devices"
    for place, (vendor, kind, driver) in enumerate(
        [
            ("0x10de", "0x030200", "nvidia"),
            ("0x10de", "0x030000", ""),
            ("0x10de", "0x030200", "vfio-pci"),
            ("0x10de", "0x068000", "nvidia-nvswitch"),
            ("0x1002", "0x030000", ""),
            ("0x10de", "nonsense", ""),
        ]
    ):
        device = devices / f"0000:0{place}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
        if driver:
            (device / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")
    # A part of the first GPU for a virtual machine (SR-IOV), which NVML does not count.
    part = devices / "0000:00:00.4"
    shutil.copytree(devices / "0000:00:00.0", part, symlinks=True)
    (part / "physfn").symlink_to("../0000:00:00.0")
    assert on_bus(tmp_path) == {"0000:00:00.0", "0000:01:00.0"}
    assert on_bus(tmp_path / "nowhere") == frozenset()


def test_which_failures_make_unhealthy() -> None:
    """A failure makes the GPU and its instances Unhealthy only if the settings say so."""
    settings = GreySettings(frozenset({ReasonKind.GPU_MISSING}), 0.0)
    watch, known = GreyWatch(settings), mig_gpu(1, "1g.10gb")
    nodes = inventory(gpu(0), known)
    watch.compare(frozenset({"0000:01:00.0", known.pci_bus_id, "0000:09:00.0"}), nodes, 1.0)
    why = (Reason(ReasonKind.GPU_MISSING, "0000:09:00.0"),)
    everything = {gpu_uuid(0), known.uuid, known.instances[0].uuid}
    assert watch.unhealthy(nodes) == dict.fromkeys(everything, why)
    reporting = GreyWatch(AT_ONCE)
    reporting.compare(frozenset({"0000:09:00.0"}), nodes, 1.0)
    assert reporting.unhealthy(nodes) == {}
    assert len(reporting.failures(nodes)) == 2


def test_what_an_operator_marks_is_forgotten(tmp_path: Path) -> None:
    """The failures of a GPU that an operator marks healthy are gone until they are seen again."""
    node, watch = LiveNode(tmp_path), GreyWatch(AT_ONCE)
    node.start(NODE)
    node.fail_grey(0, "spare-rows")
    assert seen(tmp_path, watch, gpu()) == ["spare-rows"]
    watch.forget([gpu_uuid(0), "MIG-unknown"])
    assert watch.failures(inventory(gpu())) == ()
    assert seen(tmp_path, watch, gpu()) == ["spare-rows"]
