"""Proofs of recovery without the driver's recovery action: a reset, or the operator's mark."""

import pytest

from health.condition import Condition, Look, after_mark, after_return
from proto.messages import DeviceState
from proto.monitor import Recovery
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import after_event as after
from tests.unit.builders import condition_after

H, U, R = DeviceState.HEALTHY, DeviceState.UNHEALTHY, DeviceState.RECOVERING
XID, OTHER = Reason(ReasonKind.XID, "79"), Reason(ReasonKind.XID, "48")
ROW = Reason(ReasonKind.ROW_REMAP, "failed")
PROOF, UNTOLD, DUE = Look(action=0), Look(), Look(action=1)
GONE, FAILED = Look(lost=True), Look(failed="busy")

RECOVERY = Recovery(quiet_period=10.0, probes=2)

Event = Look | Reason

PASTS: dict[str, dict[float, Event]] = {
    "healthy": {},
    "suspect": {1: FAILED},
    "ailing": {1: Look(ailments=frozenset({ROW}))},
    "faulty": {1: XID},
    "faulty and ailing": {1: XID, 2: Look(ailments=frozenset({ROW}))},
    "recovering": {1: XID, 2: PROOF},
    "lost": {1: GONE},
}
NOW = 100.0


OLD = Recovery(quiet_period=10.0, probes=1)


def energy(used: int | None) -> Look:
    """Return a check of a GPU without recovery action; *used* is its energy counter."""
    return Look(energy=used)


RESETS: dict[str, tuple[dict[float, Event], DeviceState]] = {
    "no reset": ({0: XID, 1: energy(500), 2: energy(600), 50: energy(700)}, U),
    "a reset": ({0: XID, 1: energy(500), 2: energy(3), 50: energy(700)}, H),
    "a reset, still quiet for too short": ({0: XID, 1: energy(500), 2: energy(3), 9: energy(9)}, R),
    "another fault after the reset": (
        {0: XID, 1: energy(500), 2: energy(3), 3: XID, 4: energy(4), 50: energy(9)},
        U,
    ),
    "a loss after the reset": (
        {0: XID, 1: energy(500), 2: energy(3), 3: GONE, 4: energy(4), 50: energy(9)},
        U,
    ),
    "a reset before the fault": ({0: energy(500), 1: energy(3), 2: XID, 50: energy(9)}, U),
    "the same energy": ({0: XID, 1: energy(500), 50: energy(500)}, U),
    "untold energy": ({0: XID, 1: energy(500), 2: energy(None), 50: energy(None)}, U),
    "an action due after the reset": ({0: XID, 1: energy(500), 2: energy(3), 50: DUE}, U),
}


@pytest.mark.parametrize(("events", "expected"), RESETS.values(), ids=RESETS)
def test_a_lower_energy_counter_proves_a_reset(
    events: dict[float, Event], expected: DeviceState
) -> None:
    """Without recovery action, an energy counter that starts again from 0 proves a reset."""
    assert condition_after(events, OLD).state is expected


def test_a_device_that_returns_was_reset() -> None:
    """Without recovery action, a device that was removed and added again recovers."""
    gone = after_return(condition_after({0: XID}, OLD))
    back = after(gone, UNTOLD, 20.0, OLD)
    assert (back.state, after(back, UNTOLD, 30.0, OLD).state) == (R, H)
    assert after_return(Condition()) == Condition()


@pytest.mark.parametrize("past", PASTS.values(), ids=PASTS)
def test_the_operators_mark_clears_faults(past: dict[float, Event]) -> None:
    """The operator's mark clears a device's faults, but not its ailments."""
    before = condition_after(past, RECOVERY)
    condition = after_mark(before, NOW)
    assert (condition.faults, condition.ailments) == (frozenset(), before.ailments)
    assert condition.state is (before.state if not before.faults else U if before.ailments else H)
    assert condition.recoveries == before.recoveries + bool(before.faults)


def test_transitions_are_counted() -> None:
    """`transitions` counts each change of the state, and nothing else."""
    events: dict[float, Event] = {0: XID, 1: OTHER, 2: PROOF, 3: PROOF, 20: PROOF, 21: FAILED}
    assert condition_after(events, RECOVERY).transitions == 4
