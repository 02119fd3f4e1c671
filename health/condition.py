"""What becomes of a device: its condition and what was seen of it in, its next condition out.

A fault stays until there is proof that it is gone: the driver's own word that no recovery action
is due, or from a driver that does not tell, a reset that was really seen. After that the device has
to stay without a fatal event for the quiet period, and to pass some looks. That a query succeeds
proves nothing: it does so on a GPU that has just had a fatal Xid.
"""

from dataclasses import dataclass, replace

from proto.messages import DeviceState, Reason, ReasonKind
from proto.monitor import Recovery, RecoveryMode

LONGEST_QUIET = 10
"""Doublings of the quiet period at most: 30 s become 8 hours."""

UNREADABLE = 2
"""Failed looks in a row that make a device unhealthy."""

LOST = Reason(ReasonKind.GPU_LOST)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a device showed."""

    lost: bool = False
    failed: str = ""
    """Why nothing could be seen, if it is not lost."""
    denied: bool = False
    """Whether it failed as it does for a process that may not open the GPU."""
    ailments: frozenset[Reason] = frozenset()
    """What is wrong with it now; each is gone when a look does not show it any more."""
    action: int | None = None
    """The recovery action that the driver wants (NVML field 230), 0 for none; None: untold."""
    energy: int | None = None
    """Millijoules used since the driver took the GPU up; fewer than before: it did so anew."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How a device is, and how it came to that; times are monotonic, so valid for one boot."""

    state: DeviceState = DeviceState.HEALTHY
    since: float = 0.0
    faults: frozenset[Reason] = frozenset()
    """What stays until it is proven to be gone."""
    ailments: frozenset[Reason] = frozenset()
    """What the last look showed."""
    proven_at: float | None = None
    """Since when every look has been a proof; a fatal event ends that, so it is after the last."""
    clean: int = 0
    """Looks in a row that were proofs."""
    doubts: int = 0
    """Looks in a row that failed."""
    recoveries: int = 0
    relapses: int = 0
    """Fatal events after a recovery."""
    energy: int | None = None
    """Millijoules that it had used at the first look after a fault."""
    reset_seen: bool = False
    """Whether it was reset since the last fatal event."""
    transitions: int = 0
    """Changes of its state."""

    @property
    def reasons(self) -> frozenset[Reason]:
        """Why the device is not handed out."""
        return self.faults | self.ailments


def after_fault(before: Condition, reason: Reason, now: float) -> Condition:
    """Return the condition after a fatal event."""
    relapsed = not before.faults and before.recoveries > before.relapses
    after = replace(
        before,
        faults=before.faults | {reason},
        proven_at=None,
        clean=0,
        relapses=before.relapses + relapsed,
        energy=None,
        reset_seen=False,
    )
    return _in(after, DeviceState.LOST if reason == LOST else _unless_lost(before), now)


def after_look(before: Condition, look: Look, recovery: Recovery, now: float) -> Condition:
    """Return the condition after a look at the device."""
    if look.lost:
        again = LOST in before.faults
        return _unproven(before, now) if again else after_fault(before, LOST, now)
    if look.failed:
        return _after_failed(before, look.failed, now)
    seen = replace(before, ailments=look.ailments, doubts=0)
    if not seen.faults:
        well = DeviceState.UNHEALTHY if seen.ailments else DeviceState.HEALTHY
        return _in(seen, well, now)
    seen = _after_energy(seen, look.energy)
    proof = look.action == 0 or (look.action is None and seen.reset_seen)
    if not proof or recovery.mode is RecoveryMode.NEVER:
        return _in(replace(seen, proven_at=None, clean=0), DeviceState.UNHEALTHY, now)
    return _after_proof(seen, recovery, now)


def after_return(before: Condition) -> Condition:
    """Return the condition of a device that was gone from the node and is there again."""
    return replace(before, reset_seen=True) if before.faults else before


def after_mark(before: Condition, now: float) -> Condition:
    """Return the condition after the operator's word that its faults are gone."""
    return _recovered(before, now) if before.faults else before


def _after_energy(before: Condition, energy: int | None) -> Condition:
    if energy is None:
        return before
    anew = before.energy is not None and energy < before.energy
    base = energy if before.energy is None or anew else before.energy
    return replace(before, energy=base, reset_seen=before.reset_seen or anew)


def _after_proof(before: Condition, recovery: Recovery, now: float) -> Condition:
    proven_at = now if before.proven_at is None else before.proven_at
    after = replace(before, proven_at=proven_at, clean=before.clean + 1)
    quiet = recovery.quiet_period * 2.0 ** min(before.relapses, LONGEST_QUIET)
    if after.clean < recovery.probes or now < proven_at + quiet:
        return _in(after, DeviceState.RECOVERING, now)
    return _recovered(after, now)


def _recovered(before: Condition, now: float) -> Condition:
    recovered = replace(
        before,
        faults=frozenset(),
        proven_at=None,
        clean=0,
        recoveries=before.recoveries + 1,
        energy=None,
        reset_seen=False,
    )
    well = DeviceState.UNHEALTHY if recovered.ailments else DeviceState.HEALTHY
    return _in(recovered, well, now)


def _after_failed(before: Condition, why: str, now: float) -> Condition:
    """One failed look makes a well device suspect, the next one unhealthy."""
    doubts = before.doubts + 1
    after = replace(before, doubts=doubts, proven_at=None, clean=0)
    if doubts >= UNREADABLE:
        unreadable = Reason(ReasonKind.UNREADABLE, why)
        kept = {reason for reason in before.ailments if reason.kind is not ReasonKind.UNREADABLE}
        after = replace(after, ailments=frozenset(kept | {unreadable}))
    if after.reasons:
        return _in(after, _unless_lost(before), now)
    return _in(after, DeviceState.SUSPECT, now)


def _unproven(before: Condition, now: float) -> Condition:
    after = replace(before, proven_at=None, clean=0, energy=None, reset_seen=False)
    return _in(after, DeviceState.LOST, now)


def _unless_lost(before: Condition) -> DeviceState:
    """Return UNHEALTHY; a lost device stays lost until a look reaches it."""
    return DeviceState.LOST if before.state is DeviceState.LOST else DeviceState.UNHEALTHY


def _in(condition: Condition, state: DeviceState, now: float) -> Condition:
    if condition.state is state:
        return condition
    return replace(condition, state=state, since=now, transitions=condition.transitions + 1)
