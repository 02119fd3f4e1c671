"""What came, went or cannot be reached, by what the kernel and the driver show."""

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
    """Return what was found by a driver that shows these *gpus*."""
    node: Inventory = inventory(*gpus, failed=failed)  # type: ignore[arg-type]
    return Found(node, {one.uuid: one.uuid for one in node.gpus})


PLACES = frozenset(one.pci_bus_id for one in (A, B, C))

UNREACHABLE = {
    "all there": (seen(A, B, C), PLACES, [0, 1, 2]),
    "one is lost": (seen(A, C, failed=(FAILED,)), PLACES, [0, 1, 2]),
    "one is not even told of": (seen(A, C), PLACES, [0, 1, 2]),
    "one is gone from the bus": (seen(A, C), PLACES - {B.pci_bus_id}, [0, 2]),
    "two are lost": (seen(C, failed=(FAILED, FAILED)), PLACES, [0, 1, 2]),
    "a kernel that tells nothing, and a failure": (
        seen(A, C, failed=(FAILED,)),
        frozenset(),
        [0, 1, 2],
    ),
    "a kernel that tells nothing": (seen(A, C), frozenset(), [0, 2]),
    "another card in its place": (
        seen(A, gpu(7, index=1, pci_bus_id=B.pci_bus_id), C),
        PLACES,
        [0, 1, 2],
    ),
}


@pytest.mark.parametrize(("node", "places", "indices"), UNREACHABLE.values(), ids=UNREACHABLE)
def test_a_gpu_that_was_known(node: Found, places: frozenset[str], indices: list[int]) -> None:
    """A known GPU that the kernel still has is kept though the driver does not show it."""
    kept = node.with_unreachable((A, B, C), places)
    assert [one.index for one in kept.inventory.gpus] == indices
    assert kept.handles == node.handles


def test_looks_at_what_cannot_be_reached() -> None:
    """A GPU without a handle is lost, or as the driver said when it was enumerated."""

    def looks(*failed: FailedGpu) -> Look:
        nvml = Nvml(Driver())
        return look_at_all(nvml, inventory(A, failed=failed), {})[A.uuid]

    refused = FailedGpu(0, "no permission", Code.NO_PERMISSION)
    odd = FailedGpu(0, "odd", 1)
    assert looks() == looks(FAILED) == Look(lost=True)
    assert looks(refused) == looks(FAILED, refused) == Look(failed="no permission", denied=True)
    assert looks(odd, refused) == Look(failed="odd")


def test_the_places_that_are_bound(tmp_path: Path) -> None:
    """Only what looks like a PCI place is one, and a kernel without the folder tells nothing."""
    folder = tmp_path / "bus/pci/drivers/nvidia"
    assert bound(tmp_path) == frozenset()
    for name in ("0000:07:00.0", "bind", "module", "0001:0a:00.0"):
        (folder / name).mkdir(parents=True)
    assert bound(tmp_path) == {"0000:07:00.0", "0001:0a:00.0"}


def test_instances_are_found_again(tmp_path: Path) -> None:
    """By the handles that there are another MIG layout is seen, with its capabilities."""
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
def test_what_an_operator_calls_a_device(name: str, uuids: list[str]) -> None:
    """A device is named by its UUID, or by an index as tools number it."""
    assert verdict.named(NODE, name) == uuids


def test_words_about_unknown_devices_change_nothing() -> None:
    """Devices of which nothing is known are well already."""
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
def test_access_is_lost_for_all_or_for_none(looks: list[Look], *, lost: bool) -> None:
    """Only when every GPU refuses at once it is our own access that is gone."""
    assert verdict.access_is_lost({str(n): look for n, look in enumerate(looks)}) is lost
