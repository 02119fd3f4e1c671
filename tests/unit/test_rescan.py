"""Added, removed and unreachable GPUs, as the kernel and the driver show them."""

from pathlib import Path

import pytest

from health import verdict
from health.condition import Condition, Look
from health.inventory import Found, SystemRoots, again, bound, take
from health.looks import look_at_all
from health.nvml import Code, Nvml
from proto.messages import FailedGpu, Inventory
from simulator.live_node import LiveNode
from simulator.node import SimulatedGpu, SimulatedNode, complete
from simulator.nvml import Binding
from tests.unit.builders import Driver, gpu, inventory, mig_gpu, mig_uuid

A, B, C = (gpu(place) for place in range(3))
FAILED = FailedGpu(1, "GPU is lost", Code.GPU_IS_LOST)


def seen(*gpus: object, failed: tuple[FailedGpu, ...] = ()) -> Found:
    """Return the GPUs that a driver shows, with their handles."""
    node: Inventory = inventory(*gpus, failed=failed)  # type: ignore[arg-type]
    return Found(node, {found.uuid: found.uuid for found in node.gpus})


PLACES = frozenset(known.pci_bus_id for known in (A, B, C))

UNREACHABLE = {
    "all there": (seen(A, B, C), PLACES, [0, 1, 2]),
    "one is lost": (seen(A, C, failed=(FAILED,)), PLACES, [0, 1, 2]),
    "the driver leaves one out": (seen(A, C), PLACES, [0, 1, 2]),
    "one is gone from the bus": (seen(A, C), PLACES - {B.pci_bus_id}, [0, 2]),
    "two are lost": (seen(C, failed=(FAILED, FAILED)), PLACES, [0, 1, 2]),
    "no PCI addresses from the kernel, and a failure": (
        seen(A, C, failed=(FAILED,)),
        frozenset(),
        [0, 1, 2],
    ),
    "no PCI addresses from the kernel": (seen(A, C), frozenset(), [0, 2]),
    "a new GPU at its PCI address": (
        seen(A, gpu(7, index=1, pci_bus_id=B.pci_bus_id), C),
        PLACES,
        [0, 1, 2],
    ),
}


@pytest.mark.parametrize(("node", "places", "indices"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_gpu_that_the_driver_no_longer_shows(
    node: Found, places: frozenset[str], indices: list[int]
) -> None:
    """A known GPU that the kernel still has is kept when the driver does not show it."""
    kept = node.with_unreachable((A, B, C), places)
    assert [found.index for found in kept.inventory.gpus] == indices
    assert kept.handles == node.handles


def test_checks_of_gpus_without_a_handle() -> None:
    """The check of a GPU without a handle is lost, or failed with its enumeration's error."""

    def looks(*failed: FailedGpu) -> Look:
        nvml = Nvml(Driver())
        return look_at_all(nvml, inventory(A, failed=failed), {})[A.uuid]

    refused = FailedGpu(0, "no permission", Code.NO_PERMISSION)
    odd = FailedGpu(0, "odd", 1)
    assert looks() == looks(FAILED) == Look(lost=True)
    assert looks(refused) == looks(FAILED, refused) == Look(failed="no permission", denied=True)
    assert looks(odd, refused) == Look(failed="odd")


def test_the_pci_addresses_bound_to_the_driver(tmp_path: Path) -> None:
    """Only PCI addresses in the driver's sysfs folder count; without the folder, none."""
    folder = tmp_path / "bus/pci/drivers/nvidia"
    assert bound(tmp_path) == frozenset()
    for name in ("0000:07:00.0", "bind", "module", "0001:0a:00.0"):
        (folder / name).mkdir(parents=True)
    assert bound(tmp_path) == {"0000:07:00.0", "0001:0a:00.0"}


def test_changed_mig_instances_are_found(tmp_path: Path) -> None:
    """A rescan finds changed MIG instances and their capabilities; a lost GPU keeps its own."""
    live = LiveNode(tmp_path)
    live.start(complete(SimulatedNode((SimulatedGpu(), SimulatedGpu(mig=("1g.10gb",))))))
    nvml, roots = Nvml(Binding(tmp_path)), SystemRoots(live.sysfs, live.procfs, tmp_path)
    nvml.start()
    before = take(nvml, roots)
    assert again(nvml, before, roots).inventory == before.inventory
    live.partition(1, ("3g.40gb", "1g.10gb"))
    first, second = again(nvml, before, roots).inventory.gpus
    assert first == before.inventory.gpus[0]
    assert [(i.profile, i.capabilities) for i in second.instances] == [
        ("3g.40gb", (3, 4)),
        ("1g.10gb", (5, 6)),
    ]
    live.lose(1)
    assert again(nvml, before, roots).inventory == before.inventory


NODE = inventory(gpu(0), mig_gpu(3, "1g.10gb", "2g.20gb"))


@pytest.mark.parametrize(
    ("name", "uuids"),
    [
        (gpu(0).uuid, [gpu(0).uuid]),
        ("0", [gpu(0).uuid]),
        ("3", [gpu(3).uuid, mig_uuid(3, 0), mig_uuid(3, 1)]),
        ("3:1", [mig_uuid(3, 1)]),
        (mig_uuid(3, 0), [mig_uuid(3, 0)]),
        ("1", []),
        ("3:2", []),
        ("", []),
        ("GPU-", []),
    ],
)
def test_names_of_a_device(name: str, uuids: list[str]) -> None:
    """An operator names a device by its UUID, its index, or GPU index and MIG place."""
    assert verdict.named(NODE, name) == uuids


def test_marks_of_unknown_devices_change_nothing() -> None:
    """Marks and returns of devices without faults change no condition."""
    known = {"A": Condition()}
    assert verdict.after_marks(known, ["B"], 1.0) == known
    assert verdict.after_returns(known, ["A", "B"]) == known


@pytest.mark.parametrize(
    ("looks", "lost"),
    [
        ([], False),
        ([Look(failed="x", denied=True)], True),
        ([Look(failed="x", denied=True)] * 3, True),
        ([Look(failed="x", denied=True), Look(action=0)], False),
        ([Look(failed="x", denied=True), Look(lost=True)], False),
        ([Look(failed="x")], False),
    ],
)
def test_access_is_lost_when_all_gpus_deny_it(looks: list[Look], *, lost: bool) -> None:
    """The monitor has lost its access only when every GPU denies permission at once."""
    assert verdict.access_is_lost({str(n): look for n, look in enumerate(looks)}) is lost
