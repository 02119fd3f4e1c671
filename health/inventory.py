"""Compose the node's inventory: a GPU that fails or hangs is reported and hides no other GPU."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import combinations

import msgspec

from health.enumeration import Levels
from proto.messages import FailedGpu, Gpu, Inventory, Link, LinkLevel

UNANSWERED = "the driver has not answered yet"
"""Why a GPU that may only be slow is not enumerated; it is no error."""


class Slot(msgspec.Struct, frozen=True):
    """One of the GPUs that the driver counts: *gpu*, or why it could not be enumerated."""

    index: int
    gpu: Gpu | None = None
    failed: FailedGpu | None = None
    """With neither of both: the driver has not answered yet."""


def with_absent(
    slots: Iterable[Slot],
    known: Iterable[Gpu],
    bound: frozenset[str],
    passed: Collection[str] = (),
    *,
    opened: bool = True,
) -> tuple[Gpu, ...]:
    """Return the enumerated GPUs, and the *known* ones that the node still has, by index.

    A known GPU that the driver does not show counts as still there if the kernel has it *bound* to
    the driver, or has *passed* it to virtual machines. Where the kernel shows no bound GPUs, or
    the GPU has no PCI address, it counts if any GPU failed or has not answered, or if the driver
    has not been *opened*. Without this, a restart would drop a lost or hanging GPU from the list,
    and its capacity would disappear silently.
    """
    slots = tuple(slots)
    gpus = [slot.gpu for slot in slots if slot.gpu]
    uuids, places = {gpu.uuid for gpu in gpus}, {gpu.pci_bus_id for gpu in gpus} - {""}
    gaps = len(gpus) < len(slots) or not opened
    absent = [g for g in known if g.uuid not in uuids and g.pci_bus_id not in places]
    there = {*bound, *passed}
    told = [gpu for gpu in absent if bound and gpu.pci_bus_id]
    absent = [g for g in absent if g.pci_bus_id in there or (gaps and g not in told)]
    return tuple(sorted((*gpus, *absent), key=lambda gpu: gpu.index))


def absent(slots: Iterable[Slot], gpus: Iterable[Gpu]) -> dict[str, Slot | None]:
    """Return the *gpus* that were not enumerated, by UUID, with the slot at their index, if any.

    The index of a GPU may have changed, so the slot is only the most likely one.
    """
    slots = tuple(slots)
    shown = {slot.gpu.uuid for slot in slots if slot.gpu}
    empty = {slot.index: slot for slot in slots if slot.gpu is None}
    return {gpu.uuid: empty.get(gpu.index) for gpu in gpus if gpu.uuid not in shown}


def failures(
    slots: Iterable[Slot], gpus: Iterable[Gpu], hangs: Mapping[int, str]
) -> Iterator[FailedGpu]:
    """Yield why GPUs could not be enumerated; *hangs* are the calls that hang, by index.

    A GPU of the inventory that has only not answered yet is not among them.
    """
    slots = tuple(slots)
    known = {slot.index for slot in absent(slots, gpus).values() if slot}
    for slot in slots:
        if slot.failed:
            yield slot.failed
        elif slot.gpu is None and slot.index not in known:
            call = hangs.get(slot.index)
            why = f"{call} does not return" if call else UNANSWERED
            yield FailedGpu(slot.index, why)


def places(inventory: Inventory) -> dict[str, str]:
    """Return the PCI address of each GPU and MIG instance, by UUID."""
    instances = {mig.uuid: gpu.pci_bus_id for gpu in inventory.gpus for mig in gpu.instances}
    return {gpu.uuid: gpu.pci_bus_id for gpu in inventory.gpus} | instances


def links(gpus: Iterable[Gpu], peers: Mapping[str, Counter[str]], levels: Levels) -> Iterator[Link]:
    """Yield how each pair of *gpus* is connected; *peers* are the NVLinks of each GPU, by UUID."""
    none: Counter[str] = Counter()
    for first, second in combinations(gpus, 2):
        level = levels.get((first.uuid, second.uuid), LinkLevel.SYS)
        mine, other = peers.get(first.uuid, none), peers.get(second.uuid, none)
        # Two GPUs on an NVSwitch fabric share as many links as the GPU with fewer links has.
        direct = mine[second.pci_bus_id] if second.pci_bus_id else 0
        nvlinks = direct + min(mine["switch"], other["switch"])
        if nvlinks or level is not LinkLevel.SYS:
            yield Link(first.uuid, second.uuid, level, nvlinks)
