"""Relapses are forgotten with time: half of them after ten quiet periods, all after a day."""

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given
from msgspec.structs import replace

from health.condition import Condition, Look, after_fault, after_look, after_mark, aged
from proto.messages import DeviceState
from proto.monitor import Recovery
from proto.reasons import Reason, ReasonKind

XID = Reason(ReasonKind.XID, "79")
PROOF, GONE, FAILED = Look(action=0), Look(lost=True), Look(failed="busy")
RECOVERY = Recovery(quiet_period=30.0, probes=1)
STRETCH, DAY = 300.0, 86400.0
START = 1000.0


def recovered(relapses: int, at: float = START) -> Condition:
    """Return the condition of a device that recovered at this time, after so many relapses."""
    return Condition(recoveries=relapses + 1, relapses=relapses, recovered_at=at)


AGES: list[tuple[int, float, int]] = [
    (8, 0.0, 8),
    (8, STRETCH - 0.01, 8),
    (8, STRETCH, 4),
    (8, 2 * STRETCH - 0.01, 4),
    (8, 2 * STRETCH, 2),
    (8, 3 * STRETCH, 1),
    (8, 4 * STRETCH, 0),
    (5, STRETCH, 2),
    (1, STRETCH - 0.01, 1),
    (1, STRETCH, 0),
    (0, STRETCH, 0),
    (10**6, 20 * STRETCH, 0),
    (10**6, 19 * STRETCH, 1),
]
"""Relapses, the quiet time after the recovery, and the relapses that are left."""


@pytest.mark.parametrize(("relapses", "quiet", "left"), AGES)
def test_ten_quiet_periods_halve_the_relapses(relapses: int, quiet: float, left: int) -> None:
    """Each ten quiet periods without a fatal event halve the number of relapses."""
    after = aged(recovered(relapses), RECOVERY, START + quiet)
    assert (after.relapses, after.recoveries) == (left, relapses + 1)


@pytest.mark.parametrize("relapses", [0, 1, 7, 10**6])
@pytest.mark.parametrize("period", [0.0, 0.5, 30.0, 5 * DAY])
def test_a_day_forgets_all(relapses: int, period: float) -> None:
    """After a day without a fatal event, the next fault is the first, whatever the settings."""
    recovery = Recovery(quiet_period=period, probes=1)
    before = aged(recovered(relapses), recovery, START + DAY - 0.01)
    assert before.recovered_at == START
    after = aged(before, recovery, START + DAY)
    assert after == Condition()
    assert after_fault(after, XID, START + DAY + 1.0).relapses == 0


def test_the_next_fault_counts_on_from_what_is_left() -> None:
    """A fault after a quiet stretch is one relapse more than what is left of the earlier ones."""
    after = aged(recovered(6), RECOVERY, START + STRETCH)
    fault = after_fault(after, XID, START + STRETCH + 1.0)
    assert (fault.relapses, fault.recovered_at, fault.halvings) == (4, None, 0)


@pytest.mark.parametrize(
    "look", [PROOF, Look(), GONE, FAILED], ids=["ok", "none", "lost", "failed"]
)
def test_each_check_ages(look: Look) -> None:
    """A check ages the relapses, also the check that finds the GPU lost, before it counts that."""
    after = after_look(recovered(6), look, RECOVERY, START + STRETCH)
    assert after.relapses == (4 if look is GONE else 3)


@pytest.mark.parametrize(
    "other", [{"state": DeviceState.SUSPECT}, {"doubts": 1}, {"since": 5000.0}]
)
def test_only_fatal_events_end_the_quiet_time(other: dict[str, object]) -> None:
    """Doubts and ailments, which change the state and its time, do not end the quiet time."""
    before = msgspec.convert({**msgspec.to_builtins(recovered(4)), **other}, Condition)
    assert aged(before, RECOVERY, START + STRETCH).relapses == 2


def test_relapses_of_a_faulty_device_stay() -> None:
    """While a device has a fault, its relapses are not forgotten."""
    faulty = after_fault(recovered(4), XID, START + 1.0)
    assert aged(faulty, RECOVERY, START + 2 * DAY) == faulty


@pytest.mark.parametrize("marked", [True, False])
def test_the_quiet_time_begins_with_the_recovery(*, marked: bool) -> None:
    """The quiet time begins when a device recovers, by proof or by the operator's mark."""
    faulty = after_fault(Condition(), XID, 0.0)
    if marked:
        well = after_mark(faulty, 50.0)
    else:
        proven = after_look(faulty, PROOF, RECOVERY, 20.0)
        well = after_look(proven, PROOF, RECOVERY, 50.0)
    assert (well.recovered_at, well.halvings) == (50.0, 0)


def test_a_condition_of_an_earlier_version_begins_its_quiet_time_now() -> None:
    """A recovered device from an older ledger, which has no time, is quiet from now on."""
    old = msgspec.json.decode(b'{"recoveries": 3, "relapses": 2}', type=Condition)
    begun = aged(old, RECOVERY, START)
    assert begun == replace(old, recovered_at=START)
    assert aged(begun, RECOVERY, START + STRETCH).relapses == 1


def test_a_device_that_never_failed_stays_as_it_is() -> None:
    """A device without a recovery has nothing to forget."""
    assert aged(Condition(), RECOVERY, DAY) == Condition()


def test_a_longer_quiet_period_brings_nothing_back() -> None:
    """When the setting grows, what was forgotten stays forgotten."""
    once = aged(recovered(8), RECOVERY, START + 2 * STRETCH)
    longer = Recovery(quiet_period=60.0)
    assert aged(once, longer, START + 2 * STRETCH) == once
    assert aged(once, longer, START + 6 * STRETCH).relapses == 1


RELAPSES = st.integers(0, 10**6)
TIMES = st.lists(st.floats(0.0, 2 * DAY), max_size=20).map(sorted)
PERIODS = st.sampled_from([0.0, 0.5, 2.0, 30.0, 3600.0])


@given(RELAPSES, TIMES, PERIODS)
def test_relapses_only_fall_with_quiet_time(
    relapses: int, times: list[float], period: float
) -> None:
    """However often a condition ages, its relapses never rise and never fall below 0."""
    recovery = Recovery(quiet_period=period)
    condition = recovered(relapses, 0.0)
    seen = [relapses]
    for now in times:
        condition = aged(condition, recovery, now)
        seen.append(condition.relapses)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] >= 0


@given(RELAPSES, TIMES, PERIODS)
def test_the_number_of_checks_does_not_matter(
    relapses: int, times: list[float], period: float
) -> None:
    """Many checks leave as many relapses as a single check at the end."""
    recovery = Recovery(quiet_period=period)
    condition = once = recovered(relapses, 0.0)
    for now in times:
        condition = aged(condition, recovery, now)
        once = aged(recovered(relapses, 0.0), recovery, now)
    assert (condition.relapses, condition.recoveries) == (once.relapses, once.recoveries)
