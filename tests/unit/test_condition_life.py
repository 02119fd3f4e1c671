"""A device's condition after random events, compared with a model that keeps all events."""

import enum
from typing import TypeGuard

import hypothesis.strategies as st
import msgspec
from hypothesis import given

from health.condition import LOST, Condition, Look, after_mark, after_return
from proto.messages import DeviceState
from proto.monitor import Recovery, RecoveryMode
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import after_event


class Word(enum.Enum):
    """Events of a device that come from neither NVML nor its checks."""

    RETURNED = "it was gone from the node, and is there again"
    MARKED = "the operator says that its faults are gone"


Event = Look | Reason | Word

AILMENTS = st.frozensets(
    st.sampled_from([Reason(ReasonKind.THERMAL), Reason(ReasonKind.NVLINK_DOWN, "1 of 18 links")])
)
LOOKS = st.one_of(
    st.just(Look(lost=True)),
    st.builds(Look, failed=st.sampled_from(["busy", "unknown error"])),
    st.builds(Look, ailments=AILMENTS, action=st.sampled_from([None, 0, 0, 0, 0, 1, 4, 99])),
    st.builds(Look, ailments=AILMENTS, energy=st.sampled_from([1, 2, 3, 500])),
)
FATAL = st.one_of(
    st.just(LOST), st.builds(Reason, st.just(ReasonKind.XID), st.sampled_from(["48", "79"]))
)
STEPS = st.sampled_from([0.0, 0.25, 1.0, 1.0, 2.0, 7.0, 40.0, 5000.0, 80000.0])
EVENTS = st.one_of(LOOKS, LOOKS, LOOKS, LOOKS, FATAL, st.sampled_from(Word))
LIVES = st.lists(st.tuples(STEPS, EVENTS), max_size=60)
RECOVERIES = st.builds(
    Recovery,
    mode=st.sampled_from([RecoveryMode.PROOF, RecoveryMode.PROOF, RecoveryMode.NEVER]),
    quiet_period=st.sampled_from([0.5, 2.0, 30.0]),
    probes=st.integers(1, 4),
)


class Device:
    """A model of a device that keeps all events, and computes everything from them."""

    def __init__(self, recovery: Recovery) -> None:
        self.recovery = recovery
        self.history: list[Event] = []
        self.times: list[float] = []
        self.well = 0
        """The number of events up to the last recovery: their faults are cleared."""
        self.marked = 0
        """The number of events up to the operator's last mark that cleared faults."""
        self.relapses = 0
        """The relapses at the last recovery, or since then at the first fault after it."""
        self.recovered: float | None = None
        """The time of the last recovery; None: there was none, or it is forgotten."""

    def meet(self, event: Event, now: float) -> None:
        """Add an event at the time *now*, in seconds."""
        before = self.faults()
        self.history.append(event)
        self.times.append(now)
        if self.faults() and not before:
            self.relapses = 0 if self.forgotten() else self.left() + 1
        if before and event is Word.MARKED:
            self.marked = self.well = len(self.history)
            self.recovered = now
        elif before and isinstance(event, Look) and self.proven(now):
            self.well = len(self.history)
            self.recovered = now

    def quiet(self) -> float:
        """Return the time from the last recovery to the last check after it."""
        checks = [t for e, t in self.since_well() if isinstance(e, Look)]
        return checks[-1] - self.recovered if checks and self.recovered is not None else 0.0

    def since_well(self) -> list[tuple[Event, float]]:
        """Return the events after the last recovery, with their times."""
        return list(zip(self.history, self.times, strict=True))[self.well :]

    def forgotten(self) -> bool:
        """Tell whether there was no recovery, or a quiet day after the last one."""
        return self.recovered is None or self.quiet() >= 86400.0

    def left(self) -> int:
        """Return the relapses that the quiet time since the last recovery has left."""
        return int(self.relapses / 2 ** min(self.quiet() // (10 * self.recovery.quiet_period), 99))

    def faults(self) -> set[Reason]:
        """Return the faults since the last recovery; a lost GPU is one of them."""
        events = self.history[self.well :]
        found = {event for event in events if isinstance(event, Reason)}
        return found | {LOST for event in events if isinstance(event, Look) and event.lost}

    def proofs(self) -> list[float]:
        """Return the times of the proofs in a row up to the last event."""
        times: list[float] = []
        never = self.recovery.mode is RecoveryMode.NEVER
        for place in range(len(self.history) - 1, self.well - 1, -1):
            event = self.history[place]
            if isinstance(event, Word):
                continue
            if never or not sees(event) or not self.proves(place, event.action):
                break
            times.insert(0, self.times[place])
        return times

    def proves(self, place: int, action: int | None) -> bool:
        """Tell whether a check proves recovery: by recovery action 0, or by a reset before it."""
        return action == 0 or (action is None and self.reset_before(place))

    def reset_before(self, place: int) -> bool:
        """Tell whether the GPU was reset between the last fatal event and a check."""
        used: list[int] = []
        faulty = reset = False
        for event in self.history[self.well : place + 1]:
            if isinstance(event, Reason) or lost(event):
                used, faulty, reset = [], True, False
            elif event is Word.RETURNED:
                reset |= faulty
            elif faulty and sees(event) and event.energy is not None:
                used.append(event.energy)
                reset |= used[-1] < used[0]
        return reset

    def proven(self, now: float) -> bool:
        """Tell whether there are enough proofs, over the quiet period."""
        proofs = self.proofs()
        quiet = self.recovery.quiet_period * 2 ** min(self.relapses, 10)
        return len(proofs) >= self.recovery.probes and now - proofs[0] >= quiet

    def lost(self) -> bool:
        """Tell whether no check has reached the device since it was lost."""
        told = [e for e in self.history[self.marked :] if sees(e) or e == LOST or lost(e)]
        return bool(told) and not sees(told[-1])

    def ailments(self) -> set[Reason]:
        """Return the last successful check's ailments, and unreadable after two failed checks."""
        shown: set[Reason] = set()
        failed: list[str] = []
        for event in self.history:
            if sees(event):
                shown, failed = set(event.ailments), []
            elif isinstance(event, Look) and event.failed:
                failed.append(event.failed)
        unreadable = {Reason(ReasonKind.UNREADABLE, failed[-1])} if len(failed) > 1 else set()
        return shown | unreadable

    def state(self) -> DeviceState:
        """Return the device's state."""
        if self.lost():
            return DeviceState.LOST
        if self.faults() and self.proofs():
            return DeviceState.RECOVERING
        if self.faults() or self.ailments():
            return DeviceState.UNHEALTHY
        told = [event for event in self.history[self.marked :] if not isinstance(event, Word)]
        suspect = bool(told) and not sees(told[-1])
        return DeviceState.SUSPECT if suspect else DeviceState.HEALTHY


def after(before: Condition, event: Event, now: float, recovery: Recovery) -> Condition:
    """Return the condition after an event of any kind."""
    if event is Word.RETURNED:
        return after_return(before)
    if event is Word.MARKED:
        return after_mark(before, now)
    assert not isinstance(event, Word)
    return after_event(before, event, now, recovery)


def sees(event: Event) -> TypeGuard[Look]:
    """Tell whether an event is a check that reached the device."""
    return isinstance(event, Look) and not event.lost and not event.failed


def lost(event: Event) -> bool:
    """Tell whether an event is a check that found the device lost."""
    return isinstance(event, Look) and event.lost


@given(RECOVERIES, LIVES)
def test_a_condition_is_equal_to_the_model(
    recovery: Recovery, life: list[tuple[float, Event]]
) -> None:
    """After each of random events, state, time, faults and ailments are those of the model."""
    now, since, model, condition = 0.0, 0.0, Device(recovery), Condition()
    for step, event in life:
        now, before = now + step, model.state()
        model.meet(event, now)
        condition = after(condition, event, now, recovery)
        since = since if model.state() is before else now
        expected = (model.state(), since, model.faults(), model.ailments())
        assert (
            condition.state,
            condition.since,
            {*condition.faults},
            {*condition.ailments},
        ) == expected


@given(RECOVERIES, LIVES)
def test_a_device_has_reasons_while_it_is_unhealthy(
    recovery: Recovery, life: list[tuple[float, Event]]
) -> None:
    """A device has reasons exactly while it is neither Healthy nor Suspect."""
    now, condition = 0.0, Condition()
    for step, event in life:
        now += step
        condition = after(condition, event, now, recovery)
        fit = condition.state in {DeviceState.HEALTHY, DeviceState.SUSPECT}
        assert bool(condition.reasons) is not fit


@given(RECOVERIES, LIVES)
def test_a_condition_is_json(recovery: Recovery, life: list[tuple[float, Event]]) -> None:
    """A condition after random events can be written as JSON and read again."""
    condition = Condition()
    for place, (_, event) in enumerate(life):
        condition = after(condition, event, float(place), recovery)
    assert msgspec.json.decode(msgspec.json.encode(condition), type=Condition) == condition
