"""Which devices an Xid or a health check concerns, and their health after it."""

import pytest

from health import verdict
from health.condition import Condition, Look
from health.verdict import Access, Conditions, Instance
from proto.messages import DeviceHealth, DeviceState, Gpu
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
    """Return the reasons of each Unhealthy device of the node."""
    devices = verdict.health_of(NODE, conditions, {})
    return {device.uuid: device.reasons for device in devices if device.reasons}


def states(conditions: Conditions) -> dict[str, DeviceState]:
    """Return the state of each device of the node whose state is not healthy."""
    devices = verdict.health_of(NODE, conditions, {})
    return {d.uuid: d.state for d in devices if d.state is not DeviceState.HEALTHY}


def xid(before: Conditions, place: verdict.Place, code: int, now: float = 1.0) -> Conditions:
    """Return the conditions after an Xid of a GPU or of a MIG instance."""
    return verdict.after_xid(before, verdict.hit(NODE, place), POLICY, code, now)


def looked(before: Conditions, now: float = 9.0, **looks: Look) -> Conditions:
    """Return the conditions after these health checks of GPUs."""
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
        "a different instance alone",
        "all of a GPU instance",
        "all of a compute instance's number",
        "an instance that is not known",
        "a GPU instance that is not known",
        "an instance where there is none",
        "an unknown GPU",
        "an instance of an unknown GPU",
        "a GPU that the node does not have",
    ],
)
def test_the_devices_of_a_fatal_xid(uuid: str | None, named: Instance, hit: set[str]) -> None:
    """A fatal Xid makes the MIG instance that it names Unhealthy, or all that it may mean."""
    assert reasons(xid({}, (uuid, named), 79)) == dict.fromkeys(hit, (XID,))


@pytest.mark.parametrize("uuid", ["A", "B", None])
def test_an_xid_that_is_not_fatal_changes_nothing(uuid: str | None) -> None:
    """An Xid that is not fatal changes no device's condition."""
    before = verdict.after_loss({}, ["C"], 1.0)
    assert xid(before, (uuid, (None, None)), 31) == before
    assert xid({}, (uuid, (7, 0)), 13) == {}


def test_xids_add_up() -> None:
    """A different Xid adds a reason; the same Xid again adds none."""
    once = xid({}, ("A", (None, None)), 79)
    twice = xid(once, ("A", (None, None)), 48)
    assert reasons(twice) == {"A": (Reason(ReasonKind.XID, "48"), XID)}
    assert reasons(xid(twice, ("A", (None, None)), 79)) == reasons(twice)


def test_a_fault_keeps_the_other_faults() -> None:
    """A new fault keeps the earlier faults of its device and of other devices."""
    conditions = xid(xid({}, ("A", (None, None)), 79), ("B", (8, 0)), 79)
    assert reasons(verdict.after_loss(conditions, ["A", "C"], 2.0)) == {
        "A": (LOST, XID),
        "B-8-0": (XID,),
        "C": (LOST,),
        "C-7-0": (LOST,),
    }


def test_conditions_are_not_changed_in_place() -> None:
    """The functions do not change the conditions that they get."""
    conditions = dict(xid({}, ("A", (None, None)), 79))
    before = dict(conditions)
    xid(conditions, (None, (None, None)), 79)
    verdict.after_loss(conditions, ["A", "B"], 2.0)
    looked(conditions, A=Look(action=0), B=Look(lost=True))
    assert conditions == before


def test_the_health_of_the_node() -> None:
    """All devices are listed by GPU; a MIG instance has its GPU's reasons and its own."""
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


def test_faults_of_missing_devices_are_not_listed() -> None:
    """The fault of a GPU that the node no longer has is not listed."""
    assert reasons(verdict.after_loss({}, ["gone"], 1.0)) == {}


def test_an_unwatched_gpu_and_its_instances_are_unhealthy() -> None:
    """A GPU whose Xids are not watched is Unhealthy, and so are its MIG instances."""
    conditions = xid({}, ("C", (7, 0)), 79)
    told = verdict.health_of(NODE, conditions, {"A": BLIND, "C": BLIND})
    assert {device.uuid: (device.reasons, device.state) for device in told if device.reasons} == {
        "A": ((BLIND,), DeviceState.UNHEALTHY),
        "C": ((BLIND,), DeviceState.UNHEALTHY),
        "C-7-0": ((BLIND, XID), DeviceState.UNHEALTHY),
    }


def test_instances_have_the_ailments_of_their_gpu() -> None:
    """An ailment of a GPU makes its MIG instances Unhealthy too."""
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
def test_instances_have_the_state_of_their_unhealthy_gpu(look: Look, expected: DeviceState) -> None:
    """A MIG instance on an Unhealthy GPU has the state of its GPU."""
    assert states(looked({}, C=look)) == {"C": expected, "C-7-0": expected}


def test_instances_of_a_suspect_gpu_stay_healthy() -> None:
    """After one failed check of a GPU, its MIG instances stay Healthy."""
    conditions = looked({}, C=Look(failed="busy"))
    assert (reasons(conditions), states(conditions)) == ({}, {"C": DeviceState.SUSPECT})


def test_an_instance_recovers_by_the_proof_of_its_gpu() -> None:
    """The GPU's proof starts its MIG instance's quiet period: the driver proves GPUs only."""
    broken = xid({}, ("C", (7, 0)), 79)
    asked = looked(broken, now=2.0, C=Look(ailments=frozenset({ACTION}), action=1))
    proven = looked(asked, now=3.0, C=Look(action=0))
    assert states(asked) == dict.fromkeys(["C", "C-7-0"], DeviceState.UNHEALTHY)
    assert states(proven) == {"C-7-0": DeviceState.RECOVERING}
    assert states(looked(proven, now=4.0, C=Look(action=0))) == {}


@pytest.mark.parametrize("look", [Look(lost=True), Look(failed="busy")], ids=["lost", "failed"])
def test_a_failed_check_resets_the_proofs_of_instances(look: Look) -> None:
    """A failed check of a GPU resets the proofs of its MIG instances."""
    proven = looked(xid({}, ("C", (7, 0)), 79), now=3.0, C=Look(action=0))
    conditions = looked(proven, now=3.5, C=look)
    assert conditions["C-7-0"].proven_at is None


def test_only_checked_gpus_change() -> None:
    """A health check changes the checked GPU only, and no Healthy MIG instance."""
    broken = xid({}, ("A", (None, None)), 79)
    assert looked(broken, C=Look(action=0)) == {**broken, "C": Condition()}


DENIED = Look(failed="no permission", denied=True)
KNOWN = (gpu(0, uuid="A"),)


@pytest.mark.parametrize(
    ("looks", "known", "had_access", "expected"),
    [
        ({"A": DENIED, "B": DENIED}, KNOWN, True, Access.LOST_HERE),
        ({"A": DENIED, "B": DENIED}, (), True, Access.LOST_HERE),
        ({"A": DENIED, "B": DENIED}, KNOWN, False, Access.LOST_BEFORE),
        ({"A": DENIED, "B": DENIED}, (), False, Access.UNDISPUTED),
        ({"A": DENIED, "B": Look()}, KNOWN, True, Access.UNDISPUTED),
        ({"A": DENIED, "B": Look(failed="busy")}, KNOWN, False, Access.UNDISPUTED),
        ({"A": DENIED, "B": Look(lost=True)}, KNOWN, False, Access.UNDISPUTED),
        ({"A": Look()}, KNOWN, False, Access.UNDISPUTED),
        ({}, KNOWN, True, Access.UNDISPUTED),
        ({}, KNOWN, False, Access.UNDISPUTED),
    ],
)
def test_access(
    looks: dict[str, Look], known: tuple[Gpu, ...], expected: Access, *, had_access: bool
) -> None:
    """Access is lost if all GPUs refuse it, and this monitor or one before it had it."""
    assert verdict.access_after(looks, known, had_access=had_access) is expected


NO_NAME = Reason(ReasonKind.CDI_SPEC, "nvidia-ctk is not installed")


def test_a_reason_that_needs_no_proof() -> None:
    """A device without a CDI name is Unhealthy while that is so, beside its other reasons."""
    health = verdict.health_of(NODE, verdict.after_loss({}, ["A"], 1.0), {})
    found = {d.uuid: d for d in verdict.overlaid(health, {"A": NO_NAME, "B-8-0": NO_NAME})}

    assert found["A"].reasons == tuple(sorted({LOST, NO_NAME}))
    assert found["A"].state is DeviceState.LOST
    assert found["B-8-0"].reasons == (NO_NAME,)
    assert found["B-8-0"].state is DeviceState.UNHEALTHY
    assert found["B"].state is DeviceState.HEALTHY
    assert verdict.overlaid(health, {}) == health
