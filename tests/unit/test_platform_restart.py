"""A restart of the monitor on a node with a GPU that has no PCI address."""

from pathlib import Path

import pytest

from health import inventory
from health.condition import Condition
from health.inventory import Slot
from health.ledger import Ledger
from proto.messages import FailedGpu, Gpu
from proto.monitor import Recovery
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import condition_after, gpu

ORIN = gpu(0, uuid="54d0709b-558d-5a59-9c65-0c5fc14a2000", pci_bus_id="")
CARD = gpu(1, pci_bus_id="0005:09:00.0")
BOUND = frozenset({CARD.pci_bus_id})


@pytest.mark.parametrize(
    ("bound", "failed", "expected"),
    [
        (BOUND, (FailedGpu(0, "lost"),), (ORIN, CARD)),
        (frozenset(), (FailedGpu(0, "lost"),), (ORIN, CARD)),
        (BOUND, (), (CARD,)),
    ],
)
def test_it_keeps_its_place(
    bound: frozenset[str], failed: tuple[FailedGpu, ...], expected: tuple[Gpu, ...]
) -> None:
    """It stays in the list while the driver counts a GPU that it cannot enumerate, though no PCI
    address tells that it is still there.
    """
    slots = (*(Slot(f.index, failed=f) for f in failed), Slot(1, gpu=CARD))
    assert inventory.with_absent(slots, (ORIN, CARD), bound) == expected


def test_it_keeps_its_fault(tmp_path: Path) -> None:
    """A GPU that was missing for a while has its fault again: no PCI address proves a reset."""
    (tmp_path / "boot_id").write_text("boot")
    broken = condition_after({1: Reason(ReasonKind.XID, "79")}, Recovery())
    places = {ORIN.uuid: "", CARD.uuid: CARD.pci_bus_id}

    def book() -> Ledger:
        return Ledger(tmp_path / "state", tmp_path / "boot_id")

    book().write(places, {ORIN.uuid: broken}, (ORIN, CARD))
    here = {CARD.uuid: CARD.pci_bus_id}
    without = book()
    without.recall(here, BOUND)
    without.write(here, {CARD.uuid: Condition()}, (CARD,))
    assert book().recall(places, BOUND)[ORIN.uuid] == broken
