"""Added, removed and unreachable GPUs, as the kernel and the driver show them."""

from pathlib import Path

import msgspec
import pytest

from health import inventory, verdict
from health.condition import Condition, Look
from health.enumeration import Enumerated, SystemRoots, enumerate_gpu, rescan
from health.inventory import Slot
from health.known_good import with_known_good
from health.looks import of_absent
from health.nvml import Code, Nvml
from health.pci import bound
from proto.messages import FailedGpu, Gpu
from simulator.live_node import LiveNode
from simulator.node import SimulatedGpu, SimulatedNode
from simulator.node_file import complete
from simulator.nvml import Binding
from tests.unit.builders import gpu, mig_gpu, mig_uuid
from tests.unit.builders import inventory as node_of

A, B, C = (gpu(place) for place in range(3))
LOST = FailedGpu(1, "GPU is lost", Code.GPU_IS_LOST)
PLACES = frozenset(known.pci_bus_id for known in (A, B, C))


def slot(known: Gpu) -> Slot:
    """Return the slot of an enumerated GPU."""
    return Slot(known.index, gpu=known)


def failed(index: int) -> Slot:
    """Return the slot of a GPU that is lost."""
    return Slot(index, failed=msgspec.structs.replace(LOST, index=index))


ABSENT: dict[str, tuple[tuple[Slot, ...], frozenset[str], list[int]]] = {
    "all there": ((slot(A), slot(B), slot(C)), PLACES, [0, 1, 2]),
    "one is lost": ((slot(A), failed(1), slot(C)), PLACES, [0, 1, 2]),
    "one does not answer": ((slot(A), Slot(1), slot(C)), PLACES, [0, 1, 2]),
    "the driver leaves one out": ((slot(A), slot(C)), PLACES, [0, 1, 2]),
    "one is gone from the bus": ((slot(A), slot(C)), PLACES - {B.pci_bus_id}, [0, 2]),
    "two are lost": ((slot(C), failed(0), failed(1)), PLACES, [0, 1, 2]),
    "no PCI addresses from the kernel, and a failure": (
        (slot(A), failed(1), slot(C)),
        frozenset(),
        [0, 1, 2],
    ),
    "no PCI addresses from the kernel": ((slot(A), slot(C)), frozenset(), [0, 2]),
    "a new GPU at its PCI address": (
        (slot(A), slot(gpu(7, index=1, pci_bus_id=B.pci_bus_id)), slot(C)),
        PLACES,
        [0, 1, 2],
    ),
}


@pytest.mark.parametrize(("slots", "places", "indices"), ABSENT.values(), ids=ABSENT)
def test_a_gpu_that_the_driver_does_not_show(
    slots: tuple[Slot, ...], places: frozenset[str], indices: list[int]
) -> None:
    """A known GPU that the kernel still has is kept when the driver does not show it."""
    kept = inventory.with_absent(slots, (A, B, C), places)
    assert [found.index for found in kept] == indices


def test_all_known_gpus_are_kept_while_the_driver_does_not_open() -> None:
    """Where nothing can be enumerated, the GPUs of the ledger stay, if the kernel has them."""
    assert inventory.with_absent((), (A, B), frozenset(), opened=False) == (A, B)
    assert inventory.with_absent((), (A, B), frozenset({B.pci_bus_id}), opened=False) == (B,)
    assert inventory.with_absent((), (A, B), frozenset()) == ()


def test_only_an_unknown_gpu_that_does_not_answer_is_told_as_failed() -> None:
    """A known GPU stays in the list of GPUs; one that nobody knows has only its index."""
    slots = (slot(A), Slot(1), Slot(2), failed(3))
    told = list(inventory.failures(slots, (A, B), {2: "nvmlDeviceGetName"}))
    assert [gpu.index for gpu in told] == [2, 3]
    assert told[0].error == "nvmlDeviceGetName does not return"
    (waiting, _) = inventory.failures(slots, (A, B), {})
    assert waiting.error == "the driver has not answered yet"


def test_checks_of_gpus_that_were_not_enumerated() -> None:
    """Such a GPU is lost, or fails with the error of its own enumeration, if that is known."""
    refused = FailedGpu(0, "no permission", Code.NO_PERMISSION)
    odd = FailedGpu(0, "odd", 1)
    assert of_absent(None, ()) == of_absent(None, (LOST,)) == Look(lost=True)
    denied = Look(failed="no permission", denied=True, unreached=True)
    assert of_absent(None, (LOST, refused)) == denied
    assert of_absent(None, (odd, refused)) == Look(failed="odd", unreached=True)
    assert of_absent(Slot(0, failed=refused), (odd,)) == denied
    assert of_absent(Slot(1, failed=LOST), (odd,)) == Look(lost=True)


def test_links_of_this_boot_are_remembered() -> None:
    """A GPU has as many NVLinks as were ever counted; fewer now are links that are down."""
    known = (gpu(0, nvlinks=18), gpu(1, nvlinks=2), gpu(3, nvlinks=18))
    now = (gpu(0, nvlinks=17), gpu(1, nvlinks=4), gpu(2))
    assert [with_known_good(device, known).nvlinks for device in now] == [18, 4, 0]


def test_a_moved_or_repartitioned_gpu_is_counted_anew() -> None:
    """Another slot has other links, and a change of the MIG mode changes them."""
    known = (gpu(0, nvlinks=18), gpu(1, nvlinks=18))
    now = (gpu(0, pci_bus_id="0000:99:00.0"), mig_gpu(1, "1g.10gb"))
    assert [with_known_good(device, known).nvlinks for device in now] == [0, 0]


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
    live.start(complete(SimulatedNode((SimulatedGpu(mig=("1g.10gb",)),))))
    nvml, roots = Nvml(Binding(tmp_path)), SystemRoots(live.sysfs, live.procfs, (tmp_path,))
    nvml.start()
    found = enumerate_gpu(nvml, 0, roots)
    assert isinstance(found, Enumerated)
    assert rescan(nvml, found.handle, found.gpu, roots).of(found.gpu) == found.gpu
    live.partition(0, ("3g.40gb", "1g.10gb"))
    changed = rescan(nvml, found.handle, found.gpu, roots).of(found.gpu)
    assert [(i.profile, i.capabilities) for i in changed.instances] == [
        ("3g.40gb", (3, 4)),
        ("1g.10gb", (5, 6)),
    ]
    live.lose(0)
    assert rescan(nvml, found.handle, found.gpu, roots).of(found.gpu) == found.gpu


NODE = node_of(gpu(0), mig_gpu(3, "1g.10gb", "2g.20gb"))


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
    """Marks of devices without faults change no condition."""
    known = {"A": Condition()}
    assert verdict.after_marks(known, ["B"], 1.0) == known


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
