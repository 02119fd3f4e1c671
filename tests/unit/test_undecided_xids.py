"""Xids of NVLink 5: the driver's next word about the GPU decides whether they were fatal."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from msgspec.structs import replace

from health import verdict
from health.condition import LOST, SETTLE, Condition, Look, after_fault, after_look, after_mark
from health.xid_catalogue import TABLE, UNDECIDED
from proto.messages import DeviceState
from proto.monitor import Recovery, RecoveryMode, XidPolicy
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import gpu, instance, inventory

NVLINK, OTHER = Reason(ReasonKind.XID, "145"), Reason(ReasonKind.XID, "149")
XID = Reason(ReasonKind.XID, "79")
THERMAL = Reason(ReasonKind.THERMAL)
RECOVERY = Recovery(quiet_period=30.0, probes=2)
NEVER = Recovery(RecoveryMode.NEVER, quiet_period=0.0, probes=1)
WELL, IMEX, DUE, UNTOLD = Look(action=0), Look(action=5), Look(action=1), Look()
GONE, FAILED = Look(lost=True), Look(failed="busy")
H, U, R, L = (
    DeviceState.HEALTHY,
    DeviceState.UNHEALTHY,
    DeviceState.RECOVERING,
    DeviceState.LOST,
)

RECOVERED = Condition(recoveries=2, relapses=1, recovered_at=50.0)
"""A Healthy device that has failed before."""


NEW = Condition()


def hit(before: Condition = NEW, reason: Reason = NVLINK, now: float = 100.0) -> Condition:
    """Return the condition after an Xid that the driver has to decide."""
    return after_fault(before, reason, now, undecided=True)


def looked(before: Condition, look: Look, now: float = 101.0) -> Condition:
    """Return the condition after a check that ended at this time."""
    return after_look(before, look, RECOVERY, now)


def test_the_xids_that_the_driver_decides() -> None:
    """The Xids 144 to 150 are undecided: the catalogue has one workflow for all of them."""
    assert frozenset(range(144, 151)) == UNDECIDED
    assert all(TABLE[code].name.startswith("NVLink 5 ") for code in UNDECIDED)


def test_a_device_is_unhealthy_until_the_driver_decides() -> None:
    """From the Xid on, the device is Unhealthy with the reason of the Xid."""
    assert (hit().state, hit().reasons) == (U, frozenset({NVLINK}))


@pytest.mark.parametrize("look", [WELL, IMEX], ids=["none", "IMEX domain"])
@pytest.mark.parametrize("before", [Condition(), RECOVERED], ids=["first", "again"])
def test_no_recovery_is_due(before: Condition, look: Look) -> None:
    """A driver that asks for no recovery of the GPU makes it Healthy at once; it never failed."""
    after = looked(hit(before), look)
    assert after == replace(before, since=101.0, transitions=2)


@pytest.mark.parametrize("before", [Condition(), RECOVERED], ids=["first", "again"])
@pytest.mark.parametrize("look", [DUE, UNTOLD], ids=["due", "not reported"])
def test_a_recovery_is_due_or_not_reported(before: Condition, look: Look) -> None:
    """If the driver asks for a recovery, or reports none, the Xid is a fault as any other."""
    as_usual = looked(after_fault(before, NVLINK, 100.0), look)
    assert looked(hit(before), look) == as_usual
    # Then a driver that asks for nothing any more is proof, not acquittal.
    assert looked(as_usual, WELL, 102.0).state is R


@pytest.mark.parametrize("look", [GONE, FAILED], ids=["lost", "failed"])
def test_a_check_that_reaches_nothing_decides_nothing(look: Look) -> None:
    """A failed check decides nothing: the next check that reaches the GPU does."""
    before = looked(hit(), look)
    assert NVLINK in before.reasons
    after = looked(before, WELL, 102.0)
    assert after.reasons == (frozenset({LOST}) if look is GONE else frozenset())


@pytest.mark.parametrize(
    ("began", "state"),
    [(99.0, U), (100.0, U), (100.0 + SETTLE - 0.01, R), (100.0 + SETTLE, H), (101.0, H)],
)
def test_only_a_check_that_began_later_decides(began: float, state: DeviceState) -> None:
    """A check decides if it began after the driver had time to ask for a recovery."""
    after = looked(hit(), replace(WELL, began=began))
    assert after.state is state
    assert looked(after, WELL, 102.0).state is H


@pytest.mark.parametrize("began", [99.0, 100.0])
def test_a_check_that_began_before_the_fault_is_no_proof(began: float) -> None:
    """A check that began before the last fatal event does not prove that its fault is gone."""
    faulty = after_fault(Condition(), XID, 100.0)
    stale = looked(faulty, replace(WELL, began=began))
    assert (stale.state, stale.proven_at) == (U, None)
    assert looked(faulty, replace(WELL, began=100.1)).state is R


def test_another_xid_waits_for_a_check_of_its_own() -> None:
    """A second such Xid is decided by a check that began after the second."""
    twice = hit(hit(), OTHER, 100.6)
    early = looked(twice, replace(WELL, began=100.9))
    assert early.faults == {NVLINK, OTHER}
    assert looked(early, replace(WELL, began=101.6), 102.0).faults == frozenset()


@pytest.mark.parametrize("order", [(NVLINK, XID), (XID, NVLINK)], ids=["before", "after"])
def test_other_faults_stay(order: tuple[Reason, Reason]) -> None:
    """The driver's word clears only the undecided Xid; another fault needs the quiet period."""
    both = RECOVERED
    for reason in order:
        both = after_fault(both, reason, 100.0, undecided=reason == NVLINK)
    after = looked(both, WELL)
    assert (after.state, after.faults, after.relapses) == (R, frozenset({XID}), 2)


def test_ailments_stay() -> None:
    """A problem that the deciding check finds keeps the device Unhealthy."""
    after = looked(hit(), Look(action=0, ailments=frozenset({THERMAL})))
    assert (after.state, after.reasons) == (U, frozenset({THERMAL}))


def test_a_confirmed_xid_stays_a_fault_when_it_comes_again() -> None:
    """An Xid for which a recovery was due is not decided anew when it comes again."""
    confirmed = looked(hit(), DUE)
    again = hit(confirmed, NVLINK, 102.0)
    assert looked(again, WELL, 103.0).state is R


def test_a_relapse_counts_once_it_is_decided() -> None:
    """A confirmed Xid is one relapse, which is counted when the driver decides."""
    waiting = hit(RECOVERED)
    confirmed = looked(waiting, DUE)
    assert [c.relapses for c in (waiting, confirmed, looked(confirmed, DUE, 102.0))] == [1, 2, 2]


def test_the_quiet_time_goes_on() -> None:
    """An Xid that was not fatal does not end the quiet time that makes relapses forgotten."""
    after = looked(hit(RECOVERED), WELL)
    assert looked(after, WELL, 350.0).relapses == 0


def test_mode_never_decides_nothing() -> None:
    """With recovery mode never, the Xid stays until the operator's mark, as any other fault."""
    after = after_look(hit(), WELL, NEVER, 101.0)
    assert (after.state, after.undecided) == (U, frozenset())
    assert after_mark(after, 102.0).state is H


def test_the_operators_mark_clears_an_undecided_xid() -> None:
    """The operator's mark also clears an Xid that is not decided yet."""
    after = after_mark(hit(), 100.1)
    assert (after.state, after.faults, after.undecided) == (H, frozenset(), frozenset())


def test_it_stays_undecided_over_a_restart() -> None:
    """An undecided Xid in the ledger is decided by the first check after the restart."""
    again = msgspec.json.decode(msgspec.json.encode(hit()), type=Condition)
    assert again == hit()
    assert looked(again, WELL).state is H


def test_a_fault_of_an_earlier_version_is_decided() -> None:
    """A fault in an older ledger, which has no time, needs proof and the quiet period."""
    old = b'{"state": "unhealthy", "faults": [{"kind": "xid", "detail": "145"}]}'
    assert looked(msgspec.json.decode(old, type=Condition), WELL).state is R


NODE = inventory(gpu(0, uuid="A", instances=(instance("A-7-0", 0, 7, 0),)))


@pytest.mark.parametrize("xid", [144, 147, 150])
def test_xids_and_checks_of_the_node(xid: int) -> None:
    """The GPU and its MIG instances are decided by the same check of the GPU."""
    policy = XidPolicy()
    hurt = verdict.after_xid({}, ["A", "A-7-0"], policy, xid, 100.0)
    for early in (FAILED, GONE, replace(WELL, began=99.0)):
        waiting = verdict.after_looks(hurt, NODE, {"A": early}, RECOVERY, 100.9)
        assert waiting["A-7-0"].undecided == {Reason(ReasonKind.XID, str(xid))}
    after = verdict.after_looks(hurt, NODE, {"A": replace(WELL, began=101.0)}, RECOVERY, 101.0)
    assert {uuid: condition.state for uuid, condition in after.items()} == {"A": H, "A-7-0": H}


@pytest.mark.parametrize("xid", [143, 151, 155])
def test_other_xids_are_decided(xid: int) -> None:
    """An Xid outside of this range is a fault at once."""
    hurt = verdict.after_xid({}, ["A"], XidPolicy(), xid, 100.0)
    assert verdict.after_looks(hurt, NODE, {"A": WELL}, RECOVERY, 101.0)["A"].state is R


LOOKS = st.sampled_from([WELL, IMEX, DUE, UNTOLD, GONE, FAILED])
LAGS = st.sampled_from([0.0, 0.1, SETTLE, 1.0, 5.0])
STEPS = st.sampled_from([0.0, 0.25, 1.0, 7.0, 40.0])


@given(
    st.lists(st.tuples(STEPS, LOOKS, LAGS), max_size=30), st.sampled_from([Condition(), RECOVERED])
)
def test_it_is_never_healthy_before_the_driver_decides(
    checks: list[tuple[float, Look, float]], before: Condition
) -> None:
    """After an undecided Xid, the device is out of service until a later check that is well."""
    now, condition = 100.0, hit(before)
    for step, look, lag in checks:
        now += step
        began = now - lag
        condition = looked(condition, replace(look, began=began), now)
        if look in (WELL, IMEX) and began >= 100.0 + SETTLE:
            return
        assert condition.reasons
        assert condition.state in {U, R, L}


@given(st.lists(st.tuples(STEPS, LOOKS, LAGS), max_size=30))
def test_undecided_faults_are_faults(checks: list[tuple[float, Look, float]]) -> None:
    """Whatever happens, the undecided Xids are a part of the faults, and have a time."""
    now, condition = 0.0, Condition()
    for step, look, lag in checks:
        now += step
        condition = hit(condition, now=now) if step == 1.0 else condition
        condition = looked(condition, replace(look, began=now - lag), now)
        assert condition.undecided <= condition.faults
        assert bool(condition.faults) is (condition.fault_at is not None)
