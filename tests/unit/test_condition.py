"""A device's state and reasons after each event, and the rules of recovery."""

import pytest

from health.condition import LOST, Condition, Look
from proto.messages import DeviceState
from proto.monitor import Recovery, RecoveryMode
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import after_event, condition_after

XID, OTHER = Reason(ReasonKind.XID, "79"), Reason(ReasonKind.XID, "48")
ROW = Reason(ReasonKind.ROW_REMAP, "failed")
BUSY = Reason(ReasonKind.UNREADABLE, "busy")

PROOF, UNTOLD, DUE = Look(action=0), Look(), Look(action=1)
AILING = Look(ailments=frozenset({ROW}))
AILING_PROOF = Look(ailments=frozenset({ROW}), action=0)
GONE, FAILED = Look(lost=True), Look(failed="busy")

RECOVERY = Recovery(quiet_period=10.0, probes=2)
NEVER = Recovery(RecoveryMode.NEVER, quiet_period=10.0, probes=1)

Event = Look | Reason
Past = tuple[Event, ...]

NOW = 100.0
"""A time after all past events, but within the quiet period."""

PASTS: dict[str, Past] = {
    "healthy": (),
    "suspect": (FAILED,),
    "ailing": (AILING,),
    "unreadable": (FAILED, FAILED),
    "faulty": (XID,),
    "faulty and ailing": (XID, AILING),
    "faulty, failed once": (XID, FAILED),
    "recovering": (XID, PROOF),
    "recovering and ailing": (XID, AILING_PROOF),
    "lost": (GONE,),
    "lost with a fault": (XID, GONE),
    "lost, seen again": (GONE, DUE),
}
"""By name of a state: the events that bring a device into it."""

EVENTS: dict[str, Event] = {
    "the same fatal event": XID,
    "another fatal event": OTHER,
    "a loss": LOST,
    "a proof": PROOF,
    "a look without a word": UNTOLD,
    "a look with an action due": DUE,
    "a look with an ailment": AILING,
    "a proof with an ailment": AILING_PROOF,
    "a lost look": GONE,
    "a failed look": FAILED,
}

TABLE: dict[str, dict[str, str]] = {
    "healthy": {
        "the same fatal event": "unhealthy: xid 79",
        "another fatal event": "unhealthy: xid 48",
        "a loss": "lost: gpu-lost",
        "a proof": "healthy",
        "a look without a word": "healthy",
        "a look with an action due": "healthy",
        "a look with an ailment": "unhealthy: row-remap failed",
        "a proof with an ailment": "unhealthy: row-remap failed",
        "a lost look": "lost: gpu-lost",
        "a failed look": "suspect",
    },
    "suspect": {
        "the same fatal event": "unhealthy: xid 79",
        "another fatal event": "unhealthy: xid 48",
        "a loss": "lost: gpu-lost",
        "a proof": "healthy",
        "a look without a word": "healthy",
        "a look with an action due": "healthy",
        "a look with an ailment": "unhealthy: row-remap failed",
        "a proof with an ailment": "unhealthy: row-remap failed",
        "a lost look": "lost: gpu-lost",
        "a failed look": "unhealthy: unreadable busy",
    },
    "ailing": {
        "the same fatal event": "unhealthy: row-remap failed, xid 79",
        "another fatal event": "unhealthy: row-remap failed, xid 48",
        "a loss": "lost: gpu-lost, row-remap failed",
        "a proof": "healthy",
        "a look without a word": "healthy",
        "a look with an action due": "healthy",
        "a look with an ailment": "unhealthy: row-remap failed",
        "a proof with an ailment": "unhealthy: row-remap failed",
        "a lost look": "lost: gpu-lost, row-remap failed",
        "a failed look": "unhealthy: row-remap failed",
    },
    "unreadable": {
        "the same fatal event": "unhealthy: unreadable busy, xid 79",
        "another fatal event": "unhealthy: unreadable busy, xid 48",
        "a loss": "lost: gpu-lost, unreadable busy",
        "a proof": "healthy",
        "a look without a word": "healthy",
        "a look with an action due": "healthy",
        "a look with an ailment": "unhealthy: row-remap failed",
        "a proof with an ailment": "unhealthy: row-remap failed",
        "a lost look": "lost: gpu-lost, unreadable busy",
        "a failed look": "unhealthy: unreadable busy",
    },
    "faulty": {
        "the same fatal event": "unhealthy: xid 79",
        "another fatal event": "unhealthy: xid 48, xid 79",
        "a loss": "lost: gpu-lost, xid 79",
        "a proof": "recovering: xid 79",
        "a look without a word": "unhealthy: xid 79",
        "a look with an action due": "unhealthy: xid 79",
        "a look with an ailment": "unhealthy: row-remap failed, xid 79",
        "a proof with an ailment": "recovering: row-remap failed, xid 79",
        "a lost look": "lost: gpu-lost, xid 79",
        "a failed look": "unhealthy: xid 79",
    },
    "faulty and ailing": {
        "the same fatal event": "unhealthy: row-remap failed, xid 79",
        "another fatal event": "unhealthy: row-remap failed, xid 48, xid 79",
        "a loss": "lost: gpu-lost, row-remap failed, xid 79",
        "a proof": "recovering: xid 79",
        "a look without a word": "unhealthy: xid 79",
        "a look with an action due": "unhealthy: xid 79",
        "a look with an ailment": "unhealthy: row-remap failed, xid 79",
        "a proof with an ailment": "recovering: row-remap failed, xid 79",
        "a lost look": "lost: gpu-lost, row-remap failed, xid 79",
        "a failed look": "unhealthy: row-remap failed, xid 79",
    },
    "faulty, failed once": {
        "the same fatal event": "unhealthy: xid 79",
        "another fatal event": "unhealthy: xid 48, xid 79",
        "a loss": "lost: gpu-lost, xid 79",
        "a proof": "recovering: xid 79",
        "a look without a word": "unhealthy: xid 79",
        "a look with an action due": "unhealthy: xid 79",
        "a look with an ailment": "unhealthy: row-remap failed, xid 79",
        "a proof with an ailment": "recovering: row-remap failed, xid 79",
        "a lost look": "lost: gpu-lost, xid 79",
        "a failed look": "unhealthy: unreadable busy, xid 79",
    },
    "recovering": {
        "the same fatal event": "unhealthy: xid 79",
        "another fatal event": "unhealthy: xid 48, xid 79",
        "a loss": "lost: gpu-lost, xid 79",
        "a proof": "recovering: xid 79",
        "a look without a word": "unhealthy: xid 79",
        "a look with an action due": "unhealthy: xid 79",
        "a look with an ailment": "unhealthy: row-remap failed, xid 79",
        "a proof with an ailment": "recovering: row-remap failed, xid 79",
        "a lost look": "lost: gpu-lost, xid 79",
        "a failed look": "unhealthy: xid 79",
    },
    "recovering and ailing": {
        "the same fatal event": "unhealthy: row-remap failed, xid 79",
        "another fatal event": "unhealthy: row-remap failed, xid 48, xid 79",
        "a loss": "lost: gpu-lost, row-remap failed, xid 79",
        "a proof": "recovering: xid 79",
        "a look without a word": "unhealthy: xid 79",
        "a look with an action due": "unhealthy: xid 79",
        "a look with an ailment": "unhealthy: row-remap failed, xid 79",
        "a proof with an ailment": "recovering: row-remap failed, xid 79",
        "a lost look": "lost: gpu-lost, row-remap failed, xid 79",
        "a failed look": "unhealthy: row-remap failed, xid 79",
    },
    "lost": {
        "the same fatal event": "lost: gpu-lost, xid 79",
        "another fatal event": "lost: gpu-lost, xid 48",
        "a loss": "lost: gpu-lost",
        "a proof": "recovering: gpu-lost",
        "a look without a word": "unhealthy: gpu-lost",
        "a look with an action due": "unhealthy: gpu-lost",
        "a look with an ailment": "unhealthy: gpu-lost, row-remap failed",
        "a proof with an ailment": "recovering: gpu-lost, row-remap failed",
        "a lost look": "lost: gpu-lost",
        "a failed look": "lost: gpu-lost",
    },
    "lost with a fault": {
        "the same fatal event": "lost: gpu-lost, xid 79",
        "another fatal event": "lost: gpu-lost, xid 48, xid 79",
        "a loss": "lost: gpu-lost, xid 79",
        "a proof": "recovering: gpu-lost, xid 79",
        "a look without a word": "unhealthy: gpu-lost, xid 79",
        "a look with an action due": "unhealthy: gpu-lost, xid 79",
        "a look with an ailment": "unhealthy: gpu-lost, row-remap failed, xid 79",
        "a proof with an ailment": "recovering: gpu-lost, row-remap failed, xid 79",
        "a lost look": "lost: gpu-lost, xid 79",
        "a failed look": "lost: gpu-lost, xid 79",
    },
    "lost, seen again": {
        "the same fatal event": "unhealthy: gpu-lost, xid 79",
        "another fatal event": "unhealthy: gpu-lost, xid 48",
        "a loss": "lost: gpu-lost",
        "a proof": "recovering: gpu-lost",
        "a look without a word": "unhealthy: gpu-lost",
        "a look with an action due": "unhealthy: gpu-lost",
        "a look with an ailment": "unhealthy: gpu-lost, row-remap failed",
        "a proof with an ailment": "recovering: gpu-lost, row-remap failed",
        "a lost look": "lost: gpu-lost",
        "a failed look": "unhealthy: gpu-lost",
    },
}
"""By past and event: the device's next state and its reasons."""

PAIRS = [
    pytest.param(PASTS[past], EVENTS[event], told, id=f"{past}: {event}")
    for past, row in TABLE.items()
    for event, told in row.items()
]


def come(*events: Event, recovery: Recovery = RECOVERY) -> Condition:
    """Return the condition after *events*, which come one a second, the last at NOW - 1."""
    first = NOW - len(events)
    return condition_after({first + n: event for n, event in enumerate(events)}, recovery)


def after(before: Condition, event: Event, now: float, recovery: Recovery = RECOVERY) -> Condition:
    """Return the condition after one more event."""
    return after_event(before, event, now, recovery)


def test_the_table_has_every_past() -> None:
    """The table has a row for each past and each event."""
    assert list(TABLE) == list(PASTS)
    assert all(list(row) == list(EVENTS) for row in TABLE.values())


@pytest.mark.parametrize(("past", "event", "expected"), PAIRS)
def test_every_event_in_every_state(past: Past, event: Event, expected: str) -> None:
    """A device's next state and reasons follow from its past and the event."""
    condition = after(come(*past), event, NOW)
    reasons = ", ".join(sorted(map(str, condition.reasons)))
    assert (f"{condition.state}: {reasons}" if reasons else condition.state) == expected


@pytest.mark.parametrize(("past", "event", "expected"), PAIRS)
def test_the_time_of_a_state(past: Past, event: Event, expected: str) -> None:
    """`since` is the time of the last change of the state; other events do not change it."""
    before = come(*past)
    same = before.state == expected.partition(":")[0]
    assert after(before, event, NOW).since == (before.since if same else NOW)


@pytest.mark.parametrize("past", PASTS.values(), ids=PASTS)
@pytest.mark.parametrize("event", [XID, LOST, GONE, FAILED, DUE, UNTOLD, AILING])
def test_an_event_that_is_no_proof_resets_the_count(past: Past, event: Event) -> None:
    """An event that does not prove recovery resets the count of proofs."""
    condition = after(come(*past), event, NOW)
    if condition.faults:
        assert (condition.proven_at, condition.clean) == (None, 0)


@pytest.mark.parametrize("past", PASTS.values(), ids=PASTS)
@pytest.mark.parametrize("event", [PROOF, UNTOLD, DUE, AILING, AILING_PROOF])
def test_a_successful_check_resets_failed_checks(past: Past, event: Look) -> None:
    """A successful check resets the count of failed checks, and replaces all ailments."""
    condition = after(come(*past), event, NOW)
    assert (condition.doubts, condition.ailments) == (0, event.ailments)


QUIET = {
    "proof at once": ({0: XID, 0.5: PROOF, 10: PROOF}, 10.5),
    "a proof that is the first look": ({5: XID, 6: PROOF}, 16.0),
    "late proof": ({0: XID, 50: DUE, 60: PROOF}, 70.0),
    "a fatal event after the proof": ({0: XID, 1: PROOF, 7: OTHER, 8: PROOF}, 18.0),
    "a doubt after the proof": ({0: XID, 1: PROOF, 7: FAILED, 8: PROOF}, 18.0),
    "no word after the proof": ({0: XID, 1: PROOF, 7: UNTOLD, 8: PROOF}, 18.0),
    "lost again after the proof": ({0: GONE, 1: PROOF, 7: GONE, 8: PROOF}, 18.0),
    "an ailment after the proof": ({0: XID, 1: PROOF, 7: AILING_PROOF, 8: PROOF}, 11.0),
}
"""By name: the events, and the time in seconds when the quiet period of 10 s ends."""


@pytest.mark.parametrize(("events", "over"), QUIET.values(), ids=QUIET)
def test_the_quiet_period(events: dict[float, Event], over: float) -> None:
    """A device is Healthy a quiet period after the first proof of an unbroken row."""
    before = condition_after(events, RECOVERY)
    early = after(before, PROOF, over - 0.01)
    assert (early.state, bool(early.faults)) == (DeviceState.RECOVERING, True)
    well = after(early, PROOF, over)
    assert well == Condition(
        DeviceState.HEALTHY,
        since=over,
        recoveries=1,
        recovered_at=over,
        transitions=well.transitions,
    )


@pytest.mark.parametrize("probes", [1, 2, 3, 10])
def test_probes(probes: int) -> None:
    """Recovery needs the configured number of proofs in a row, however long it takes."""
    recovery = Recovery(quiet_period=0.5, probes=probes)
    states = []
    condition = after(Condition(), XID, 0.0, recovery)
    for place in range(probes):
        condition = after(condition, PROOF, 100.0 * (place + 1), recovery)
        states.append(condition.state)
    expected = (
        [DeviceState.RECOVERING] * (probes - 1) + [DeviceState.HEALTHY]
        if probes > 1
        else [DeviceState.RECOVERING]
    )
    assert states == expected


@pytest.mark.parametrize(
    ("relapses", "quiet"),
    [(0, 10.0), (1, 20.0), (2, 40.0), (9, 5120.0), (10, 10240.0), (11, 10240.0), (10**6, 10240.0)],
)
def test_the_quiet_period_doubles(relapses: int, quiet: float) -> None:
    """Each relapse doubles the quiet period, up to 1024 times."""
    before = Condition(
        DeviceState.UNHEALTHY, faults=frozenset({XID}), recoveries=relapses, relapses=relapses
    )
    proven = after(before, PROOF, 1000.0)
    assert after(proven, PROOF, 1000.0 + quiet - 0.01).state is DeviceState.RECOVERING
    assert after(proven, PROOF, 1000.0 + quiet).state is DeviceState.HEALTHY


def test_a_relapse_is_the_first_fatal_event_after_a_recovery() -> None:
    """More faults before recovery are no relapse; the first fault after recovery is one."""
    well = Recovery(quiet_period=1.0, probes=1)
    counts = []
    condition = Condition()
    for start in (0.0, 100.0, 200.0):
        events: dict[float, Event] = {
            start: XID,
            start + 1: OTHER,
            start + 2: PROOF,
            start + 3: XID,
        }
        events |= {start + 10: PROOF, start + 50: PROOF}
        for now, event in events.items():
            condition = after(condition, event, now, well)
        counts.append((condition.state, condition.recoveries, condition.relapses))
    assert counts == [
        (DeviceState.HEALTHY, 1, 0),
        (DeviceState.HEALTHY, 2, 1),
        (DeviceState.HEALTHY, 3, 2),
    ]


def test_a_recovered_device_may_still_have_ailments() -> None:
    """A device whose faults are gone stays Unhealthy while a check shows an ailment."""
    before = condition_after({0: XID, 1: PROOF, 5: PROOF}, RECOVERY)
    condition = after(before, AILING_PROOF, 11.0)
    assert (condition.state, condition.reasons) == (DeviceState.UNHEALTHY, frozenset({ROW}))


@pytest.mark.parametrize("past", PASTS.values(), ids=PASTS)
def test_recovery_mode_never(past: Past) -> None:
    """With recovery mode never, proofs clear no faults; ailments still come and go."""
    before = come(*past, recovery=NEVER)
    condition = before
    for later in range(5):
        condition = after(condition, PROOF, NOW + 1000.0 * later, NEVER)
    assert (condition.faults, condition.ailments) == (before.faults, frozenset())
    assert condition.state is (DeviceState.UNHEALTHY if before.faults else DeviceState.HEALTHY)


def test_each_check_replaces_the_ailments() -> None:
    """The ailments are those of the last successful check; others are cleared."""
    both = Look(ailments=frozenset({ROW, Reason(ReasonKind.THERMAL)}))
    assert [
        condition_after(events, RECOVERY).reasons
        for events in ({0.0: both}, {0.0: both, 1.0: AILING}, {0.0: both, 1.0: UNTOLD})
    ] == [both.ailments, {ROW}, frozenset()]


def test_single_failed_checks_keep_a_device_healthy() -> None:
    """Failed checks that alternate with successful checks never make a device Unhealthy."""
    events = {0.0: FAILED, 1.0: UNTOLD, 2.0: FAILED, 3.0: UNTOLD}
    assert condition_after(events, RECOVERY) == Condition(
        DeviceState.HEALTHY, since=3.0, transitions=4
    )


def test_the_last_failed_check_is_the_reason() -> None:
    """An unreadable device has only the error of the last failed check as its reason."""
    events = {0.0: FAILED, 1.0: FAILED, 2.0: Look(failed="other")}
    assert condition_after(events, RECOVERY).reasons == {Reason(ReasonKind.UNREADABLE, "other")}


def test_a_device_that_was_never_reached_is_not_suspect() -> None:
    """The first failed check of a GPU that was not enumerated makes it Unhealthy."""
    unreached = {0.0: Look(failed="busy", unreached=True)}
    assert condition_after(unreached, RECOVERY).reasons == {BUSY}
