"""What is forgotten of absent devices, and of Xids: nothing that keeps a device Unhealthy."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from health.condition import FORGET_AFTER, Condition, Look, after_fault
from health.forgetting import MOST_ABSENT, MOST_XIDS, Entry, XidCounts, counted, remembered
from health.ledger import FILE, Ledger
from proto.monitor import Recovery
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import condition_after

PLACE, OTHER = "0000:01:00.0", "0000:02:00.0"
XID = Reason(ReasonKind.XID, "79")
BROKEN = after_fault(Condition(), XID, 1.0)
RECOVERED = condition_after({1: XID, 2: Look(action=0)}, Recovery(quiet_period=0.0, probes=1))
HOT = Condition(ailments=frozenset({Reason(ReasonKind.THERMAL)}))
NOW = 1e6
LARGEST = 400 * MOST_ABSENT
"""Bytes of the largest file with these entries, of about 300 bytes each."""


@pytest.mark.parametrize(
    ("entry", "kept"),
    [
        (Entry(PLACE, BROKEN, gone=True), True),
        (Entry(PLACE, HOT, gone=True, left=NOW), False),
        (Entry(PLACE, HOT), True),
        (Entry(PLACE, RECOVERED, gone=True, left=NOW - FORGET_AFTER + 1), True),
        (Entry(PLACE, RECOVERED, gone=True, left=NOW - FORGET_AFTER), False),
        (Entry(PLACE, RECOVERED), True),
    ],
    ids=["broken", "hot", "hot, out of reach", "recovered", "long ago", "recovered, out of reach"],
)
def test_a_gone_device_without_a_fault_is_forgotten(entry: Entry, *, kept: bool) -> None:
    """A device that is gone is forgotten if it has no fault, after a day if it had one."""
    assert remembered({"A": entry}, {PLACE}, NOW) == ({"A": entry} if kept else {})


def many(number: int, *, gone: bool = True) -> dict[str, Entry]:
    """Return entries of broken instances that left one after the other."""
    return {f"MIG-{n}": Entry(PLACE, BROKEN, gone, left=float(n)) for n in range(number)}


def test_of_too_many_the_first_that_left_are_forgotten() -> None:
    """If there are too many absent devices, those that left first are forgotten."""
    kept = remembered(many(MOST_ABSENT + 10), {PLACE}, NOW)
    assert list(kept) == [f"MIG-{n}" for n in range(10, MOST_ABSENT + 10)]


def test_a_device_that_may_be_out_of_reach_is_kept_longest() -> None:
    """A device that a monitor has not found, at an address without a GPU, is kept before others."""
    lost = {"GPU-lost": Entry(OTHER, BROKEN)}
    kept = remembered(lost | many(2 * MOST_ABSENT), {PLACE}, NOW)
    assert len(kept) == MOST_ABSENT
    assert kept["GPU-lost"] == lost["GPU-lost"]


def test_destroyed_instances_of_a_present_gpu_go_first() -> None:
    """Instances that a GPU lost while no monitor ran are forgotten before a lost GPU's."""
    lost = {f"lost-{n}": Entry(OTHER, BROKEN) for n in range(100)}
    kept = remembered(many(MOST_ABSENT, gone=False) | lost, {PLACE}, NOW)
    assert len(kept) == MOST_ABSENT
    assert lost.keys() <= kept.keys()


def book(folder: Path) -> Ledger:
    """Return a new ledger, as after a restart in the same boot."""
    (folder / "boot_id").write_text("boot\n")
    return Ledger(folder / "state", folder / "boot_id")


def test_ever_new_instances_do_not_let_the_file_grow(tmp_path: Path) -> None:
    """600 MIG layouts, each with a broken instance: the file stays small, and what is broken on
    the node now is known after a restart.
    """
    before = book(tmp_path)
    for n in range(600):
        places = {"GPU-a": PLACE, f"MIG-{n}": PLACE}
        before.write(places, {"GPU-a": BROKEN, f"MIG-{n}": BROKEN})
    assert (tmp_path / "state" / FILE).stat().st_size < LARGEST
    assert book(tmp_path).recall(places) == {"GPU-a": BROKEN, "MIG-599": BROKEN}


def test_restarts_do_not_let_the_file_grow(tmp_path: Path) -> None:
    """New layouts while no monitor runs do not let the file grow either."""
    for n in range(600):
        places = {"GPU-a": PLACE, f"MIG-{n}": PLACE}
        ledger = book(tmp_path)
        ledger.recall(places)
        ledger.write(places, {"GPU-a": BROKEN, f"MIG-{n}": BROKEN})
    assert (tmp_path / "state" / FILE).stat().st_size < LARGEST


def test_a_device_that_comes_back_in_time_has_its_fault(tmp_path: Path) -> None:
    """A broken instance that is gone and comes back is still broken, as after a reset."""
    ledger = book(tmp_path)
    ledger.write({"GPU-a": PLACE, "MIG-a": PLACE}, {"MIG-a": BROKEN})
    ledger.write({"GPU-a": PLACE}, {})
    [found] = ledger.recall({"GPU-a": PLACE, "MIG-a": PLACE}).values()
    assert (found.faults, found.reset_seen) == (BROKEN.faults, True)


def test_a_gpu_that_was_not_found_is_not_gone(tmp_path: Path) -> None:
    """A GPU that a new monitor has not found yet was not reset, however often the file changes."""
    book(tmp_path).write({"GPU-a": PLACE, "GPU-b": OTHER}, {"GPU-a": BROKEN})
    ledger = book(tmp_path)
    for condition in (HOT, BROKEN):
        ledger.write({"GPU-b": OTHER}, {"GPU-b": condition})
    assert book(tmp_path).recall({"GPU-a": PLACE, "GPU-b": OTHER})["GPU-a"] == BROKEN


def test_what_could_not_be_written_is_still_known(tmp_path: Path) -> None:
    """A device that leaves while the disk is full has its fault when it comes back."""
    ledger = book(tmp_path)
    (tmp_path / "state").write_text("in the way")
    ledger.write({"GPU-a": PLACE, "MIG-a": PLACE}, {"MIG-a": BROKEN})
    ledger.write({"GPU-a": PLACE}, {})
    assert ledger.recall({"GPU-a": PLACE, "MIG-a": PLACE})["MIG-a"].faults == BROKEN.faults


@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 1000)), max_size=600))
def test_the_counts_of_xids_are_bounded(xids: list[tuple[str, int]]) -> None:
    """Ever new Xids do not let the counts grow; those that came last are counted right."""
    counts: XidCounts = {}
    for at, (uuid, xid) in enumerate(xids):
        counts = counted(counts, uuid, xid, float(at))
        assert counts[uuid, xid].last == at
    assert len(counts) == min(len(set(xids)), MOST_XIDS)
    assert all(count.count <= xids.count(key) for key, count in counts.items())
