"""What is unhealthy after what was observed."""

import pytest

from health import verdict
from health.verdict import Faults, Instance
from proto.messages import DeviceHealth, Reason, ReasonKind
from proto.xids import XidPolicy
from tests.unit.builders import gpu, instance, inventory

POLICY = XidPolicy(exceptions=frozenset({13, 31}))
XID = Reason(ReasonKind.XID, "79")
LOST = Reason(ReasonKind.GPU_LOST)
BLIND = Reason(ReasonKind.UNWATCHED)

NODE = inventory(
    gpu(0, uuid="A"),
    gpu(
        1,
        uuid="B",
        instances=(
            instance("B-7-0", 0, 7, 0),
            instance("B-7-1", 1, 7, 1),
            instance("B-8-0", 2, 8, 0),
        ),
    ),
    gpu(2, uuid="C", instances=(instance("C-7-0", 0, 7, 0),)),
)
ALL = {"A", "B", "B-7-0", "B-7-1", "B-8-0", "C", "C-7-0"}


def unhealthy(faults: Faults) -> dict[str, tuple[Reason, ...]]:
    """Return the reasons of each device of the node that has any."""
    return {one.uuid: one.reasons for one in verdict.health_of(NODE, faults) if one.reasons}


@pytest.mark.parametrize(
    ("uuid", "named", "hit"),
    [
        ("A", (None, None), {"A"}),
        ("B", (None, None), {"B", "B-7-0", "B-7-1", "B-8-0"}),
        ("B", (7, 1), {"B-7-1"}),
        ("B", (8, 0), {"B-8-0"}),
        ("B", (7, None), {"B-7-0", "B-7-1"}),
        ("B", (None, 0), {"B-7-0", "B-8-0"}),
        ("B", (9, 0), {"B", "B-7-0", "B-7-1", "B-8-0"}),
        ("B", (9, None), {"B", "B-7-0", "B-7-1", "B-8-0"}),
        ("A", (7, 0), {"A"}),
        (None, (None, None), ALL),
        (None, (7, 0), {"A", "B-7-0", "C-7-0"}),
        ("unknown", (None, None), set()),
    ],
    ids=[
        "a GPU",
        "a GPU and all its instances",
        "one instance alone",
        "another instance alone",
        "all of a GPU instance",
        "all of a compute instance's number",
        "an instance that is not known",
        "a GPU instance that is not known",
        "an instance where there is none",
        "an unknown GPU",
        "an instance of an unknown GPU",
        "a GPU of another node",
    ],
)
def test_attribution(uuid: str | None, named: Instance, hit: set[str]) -> None:
    """A fatal Xid hits the instance that it names, and everything that it could be about."""
    found = unhealthy(verdict.after_xid({}, NODE, POLICY, (uuid, named), 79))
    assert found == dict.fromkeys(hit, (XID,))


@pytest.mark.parametrize("uuid", ["A", "B", None])
def test_a_harmless_xid_hits_nothing(uuid: str | None) -> None:
    """An Xid that an application caused changes no health, and no earlier fault."""
    before = verdict.add({}, ["C"], LOST)
    assert verdict.after_xid(before, NODE, POLICY, (uuid, (None, None)), 31) == before
    assert verdict.after_xid({}, NODE, POLICY, (uuid, (7, 0)), 13) == {}


def test_xids_add_up() -> None:
    """A second Xid adds its own reason; the same one again changes nothing."""
    once = verdict.after_xid({}, NODE, POLICY, ("A", (None, None)), 79)
    twice = verdict.after_xid(once, NODE, POLICY, ("A", (None, None)), 48)
    assert unhealthy(twice) == {"A": (Reason(ReasonKind.XID, "48"), XID)}
    assert verdict.after_xid(twice, NODE, POLICY, ("A", (None, None)), 79) == twice


def test_adding_a_reason_leaves_the_other_faults() -> None:
    """A new reason comes beside the old ones, of this device and of others."""
    faults = verdict.add({}, ["A", "B"], XID)
    assert verdict.add(faults, ["B", "C"], LOST) == {
        "A": frozenset({XID}),
        "B": frozenset({XID, LOST}),
        "C": frozenset({LOST}),
    }


def test_faults_are_values() -> None:
    """Adding and clearing return new faults and leave those that they were given."""
    faults = verdict.add({}, ["A"], XID)
    verdict.add(faults, ["A", "B"], LOST)
    verdict.clear(faults, XID)
    assert faults == {"A": frozenset({XID})}


@pytest.mark.parametrize(
    ("reason", "left"),
    [
        (BLIND, {"A": frozenset({XID})}),
        (XID, {"A": frozenset({BLIND}), "B": frozenset({BLIND})}),
        (LOST, {"A": frozenset({XID, BLIND}), "B": frozenset({BLIND})}),
    ],
    ids=["on all", "on one", "on none"],
)
def test_clear(reason: Reason, left: Faults) -> None:
    """Clearing takes one reason from every device, and forgets devices that have none left."""
    faults = verdict.add(verdict.add({}, ["A", "B"], BLIND), ["A"], XID)
    assert verdict.clear(faults, reason) == left


def test_the_health_of_the_node() -> None:
    """Every device is listed, GPU by GPU; an instance has its GPU's reasons and its own, sorted."""
    faults = verdict.add(verdict.add({}, ["B", "C-7-0"], XID), ["B-7-1"], LOST)
    assert verdict.health_of(NODE, faults) == (
        DeviceHealth("A"),
        DeviceHealth("B", (XID,)),
        DeviceHealth("B-7-0", (XID,)),
        DeviceHealth("B-7-1", (LOST, XID)),
        DeviceHealth("B-8-0", (XID,)),
        DeviceHealth("C"),
        DeviceHealth("C-7-0", (XID,)),
    )


def test_faults_of_devices_that_are_not_there_do_not_matter() -> None:
    """A fault of a GPU that the node no longer has is not told."""
    assert unhealthy(verdict.add({}, ["gone"], LOST)) == {}
