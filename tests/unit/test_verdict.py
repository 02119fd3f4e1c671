"""Whom an event or a look concerns, and what is told of each device after it."""

import pytest

from health import verdict
from health.condition import Condition, Look
from health.verdict import Conditions, Instance
from proto.messages import DeviceHealth, DeviceState
from proto.monitor import Recovery, XidPolicy
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import gpu, instance, inventory

POLICY = XidPolicy(exceptions=frozenset({13, 31}))
XID = Reason(ReasonKind.XID, "79")
LOST = Reason(ReasonKind.GPU_LOST)
BLIND = Reason(ReasonKind.UNWATCHED)
ACTION = Reason(ReasonKind.RECOVERY_ACTION, "reset the GPU")

ONE_PROBE = Recovery(quiet_period=1.0, probes=1)

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


def reasons(conditions: Conditions) -> dict[str, tuple[Reason, ...]]:
    """Return the reasons of each device of the node that has any."""
    told = verdict.health_of(NODE, conditions, {})
    return {one.uuid: one.reasons for one in told if one.reasons}


def states(conditions: Conditions) -> dict[str, DeviceState]:
    """Return the state of each device of the node that is not healthy."""
    told = verdict.health_of(NODE, conditions, {})
    return {one.uuid: one.state for one in told if one.state is not DeviceState.HEALTHY}


def xid(before: Conditions, place: verdict.Place, code: int, now: float = 1.0) -> Conditions:
    """Return the conditions after an Xid at a place of the node."""
    return verdict.after_xid(before, verdict.hit(NODE, place), POLICY, code, now)


def looked(before: Conditions, now: float = 9.0, **looks: Look) -> Conditions:
    """Return the conditions after looks at GPUs."""
    return verdict.after_looks(before, NODE, looks, ONE_PROBE, now)


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
    assert reasons(xid({}, (uuid, named), 79)) == dict.fromkeys(hit, (XID,))


@pytest.mark.parametrize("uuid", ["A", "B", None])
def test_a_harmless_xid_hits_nothing(uuid: str | None) -> None:
    """An Xid that an application caused changes no health, and no earlier fault."""
    before = verdict.after_loss({}, ["C"], 1.0)
    assert xid(before, (uuid, (None, None)), 31) == before
    assert xid({}, (uuid, (7, 0)), 13) == {}


def test_xids_add_up() -> None:
    """A second Xid adds its own reason; the same one again adds none."""
    once = xid({}, ("A", (None, None)), 79)
    twice = xid(once, ("A", (None, None)), 48)
    assert reasons(twice) == {"A": (Reason(ReasonKind.XID, "48"), XID)}
    assert reasons(xid(twice, ("A", (None, None)), 79)) == reasons(twice)


def test_a_fault_leaves_the_other_faults() -> None:
    """A new fault comes beside the old ones, of this device and of others."""
    conditions = xid(xid({}, ("A", (None, None)), 79), ("B", (8, 0)), 79)
    assert reasons(verdict.after_loss(conditions, ["A", "C"], 2.0)) == {
        "A": (LOST, XID),
        "B-8-0": (XID,),
        "C": (LOST,),
        "C-7-0": (LOST,),
    }


def test_conditions_are_values() -> None:
    """What is given to a function is the same afterwards."""
    conditions = dict(xid({}, ("A", (None, None)), 79))
    before = dict(conditions)
    xid(conditions, (None, (None, None)), 79)
    verdict.after_loss(conditions, ["A", "B"], 2.0)
    looked(conditions, A=Look(action=0), B=Look(lost=True))
    assert conditions == before


def test_the_health_of_the_node() -> None:
    """Every device is listed, GPU by GPU; an instance has its GPU's reasons and its own, sorted."""
    conditions = xid(xid(xid({}, ("B", (7, 1)), 48), ("B", (None, None)), 79), ("C", (7, 0)), 79)
    unhealthy, other = DeviceState.UNHEALTHY, Reason(ReasonKind.XID, "48")
    told = verdict.health_of(NODE, conditions, {}, {"B": 1, "C": None}, booted=1000.0)
    assert told == (
        DeviceHealth("A"),
        DeviceHealth("B", (XID,), unhealthy, 1001.0, 1, recovery_action=1),
        DeviceHealth("B-7-0", (XID,), unhealthy, 1001.0, 1),
        DeviceHealth("B-7-1", (other, XID), unhealthy, 1001.0, 1),
        DeviceHealth("B-8-0", (XID,), unhealthy, 1001.0, 1),
        DeviceHealth("C"),
        DeviceHealth("C-7-0", (XID,), unhealthy, 1001.0, 1),
    )


def test_what_is_known_of_devices_that_are_not_there_does_not_matter() -> None:
    """A fault of a GPU that the node no longer has is not told."""
    assert reasons(verdict.after_loss({}, ["gone"], 1.0)) == {}


def test_a_gpu_that_is_not_watched_is_unhealthy_with_its_instances() -> None:
    """Where no fault would be seen nothing is handed out, whatever is known of the device."""
    conditions = xid({}, ("C", (7, 0)), 79)
    told = verdict.health_of(NODE, conditions, {"A": BLIND, "C": BLIND})
    assert {one.uuid: (one.reasons, one.state) for one in told if one.reasons} == {
        "A": ((BLIND,), DeviceState.UNHEALTHY),
        "C": ((BLIND,), DeviceState.UNHEALTHY),
        "C-7-0": ((BLIND, XID), DeviceState.UNHEALTHY),
    }


def test_what_a_look_shows_of_a_gpu_is_told_of_its_instances() -> None:
    """An ailment is the GPU's, and keeps its instances from being handed out too."""
    conditions = looked({}, B=Look(ailments=frozenset({ACTION}), action=1))
    assert reasons(conditions) == dict.fromkeys(["B", "B-7-0", "B-7-1", "B-8-0"], (ACTION,))
    assert reasons(looked(conditions, now=10.0, B=Look(action=0))) == {}


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (Look(lost=True), DeviceState.LOST),
        (Look(ailments=frozenset({ACTION})), DeviceState.UNHEALTHY),
    ],
    ids=["lost", "ailing"],
)
def test_instances_are_in_the_state_of_their_broken_gpu(look: Look, expected: DeviceState) -> None:
    """An instance of a GPU that is not fit is as its GPU is."""
    assert states(looked({}, C=look)) == {"C": expected, "C-7-0": expected}


def test_a_suspect_gpu_leaves_its_instances_alone() -> None:
    """One failed look takes nothing away."""
    conditions = looked({}, C=Look(failed="busy"))
    assert (reasons(conditions), states(conditions)) == ({}, {"C": DeviceState.SUSPECT})


def test_an_instance_recovers_by_the_proof_of_its_gpu() -> None:
    """An instance has no driver's word of its own: the GPU's is the proof, and starts its quiet."""
    broken = xid({}, ("C", (7, 0)), 79)
    asked = looked(broken, now=2.0, C=Look(ailments=frozenset({ACTION}), action=1))
    proven = looked(asked, now=3.0, C=Look(action=0))
    assert states(asked) == dict.fromkeys(["C", "C-7-0"], DeviceState.UNHEALTHY)
    assert states(proven) == {"C-7-0": DeviceState.RECOVERING}
    assert states(looked(proven, now=4.0, C=Look(action=0))) == {}


@pytest.mark.parametrize("look", [Look(lost=True), Look(failed="busy")], ids=["lost", "failed"])
def test_a_look_that_fails_ends_the_proof_of_instances(look: Look) -> None:
    """Proofs are counted in a row for an instance as for its GPU."""
    proven = looked(xid({}, ("C", (7, 0)), 79), now=3.0, C=Look(action=0))
    conditions = looked(proven, now=3.5, C=look)
    assert conditions["C-7-0"].proven_at is None


def test_only_gpus_that_were_looked_at_change() -> None:
    """Without a look at a GPU nothing becomes known of it, nor of an instance that was well."""
    broken = xid({}, ("A", (None, None)), 79)
    assert looked(broken, C=Look(action=0)) == {**broken, "C": Condition()}
