"""Decide the health of a device: from its condition and a new observation to its next condition.

A fault stays until it is proven gone. Proof is the driver's report that the GPU needs no recovery
action; from a driver without such reports, proof is an observed reset. After the proof, the device
needs a quiet period without fatal events and a number of passed checks. A successful query is not
proof: it also succeeds right after a fatal Xid.
"""

import math

import msgspec
from msgspec.structs import replace

from health import readiness
from health.readiness import READY, Readiness
from health.recovery_actions import acquits
from proto.messages import DeviceState
from proto.monitor import Recovery, RecoveryMode
from proto.reasons import Reason, ReasonKind

LONGEST_QUIET = 10
"""The largest number of doublings of the quiet period: 30 s become 8 hours."""

SETTLE = 0.5
"""Seconds from an Xid to the driver's decision: it reports recovery actions separately, later."""

HALF_LIFE = 10
"""The number of quiet periods without a fatal event that halve the relapses."""

FORGET_AFTER = 86400.0
"""Seconds without a fatal event after which a device counts as one that never failed."""

UNREADABLE = 2
"""Failed checks in a row that make a device unhealthy."""

LOST = Reason(ReasonKind.GPU_LOST)


class Look(msgspec.Struct, frozen=True):
    """The result of one health check of a device."""

    lost: bool = False
    hung: str = ""
    """The driver call of the check that does not return."""
    failed: str = ""
    """The driver's error if the check failed; empty if it passed or the device is lost."""
    denied: bool = False
    """Whether the error is the one of a process that may not open the GPU."""
    unreached: bool = False
    """Whether this monitor has not enumerated the device, so no check has ever succeeded."""
    ailments: frozenset[Reason] = frozenset()
    """Present problems; each ends when a later check does not find it."""
    action: int | None = None
    """The recovery action that the driver asks for (NVML field 230); None: not supported."""
    energy: int | None = None
    """Millijoules used since the driver initialised the GPU; a lower value reveals a reset."""
    ready: Readiness = READY
    """Whether CUDA can use the device."""
    began: float = math.inf
    """When the check began; what happened later, it cannot know. Infinity: after all events."""


class Condition(msgspec.Struct, frozen=True):
    """The health of a device and its history; times are monotonic, so valid for one boot."""

    state: DeviceState = DeviceState.HEALTHY
    since: float = 0.0
    faults: frozenset[Reason] = frozenset()
    """Reasons that stay until they are proven gone."""
    undecided: frozenset[Reason] = frozenset()
    """Those faults of which the driver has not said yet whether they need a recovery."""
    fault_at: float | None = None
    """When the last fatal event came; None: the device has no fault, or the time is not known."""
    ailments: frozenset[Reason] = frozenset()
    """Problems that the last check found."""
    joining_since: float | None = None
    """Since when it has not joined its NVLink fabric; None: it has, or has none."""
    proven_at: float | None = None
    """When the unbroken series of proofs began; a fatal event or a check without proof ends it."""
    clean: int = 0
    """Checks in a row that were proofs."""
    doubts: int = 0
    """Checks in a row that failed."""
    recoveries: int = 0
    """Recoveries that are not forgotten."""
    relapses: int = 0
    """Fatal events after a recovery that are not forgotten."""
    recovered_at: float | None = None
    """When the quiet time since the last recovery began; None: the device has no recovery."""
    halvings: int = 0
    """How often the relapses have been halved since then."""
    energy: int | None = None
    """Energy in millijoules at the first check after a fault."""
    reset_seen: bool = False
    """Whether a reset was observed since the last fatal event."""
    transitions: int = 0
    """Number of state changes."""

    @property
    def reasons(self) -> frozenset[Reason]:
        """Why the device is advertised as Unhealthy; empty: Healthy."""
        return self.faults | self.ailments

    @property
    def decided(self) -> frozenset[Reason]:
        """The faults that are certain."""
        return self.faults - self.undecided


def after_fault(
    before: Condition, reason: Reason, now: float, *, undecided: bool = False
) -> Condition:
    """Return the condition after a fatal event, or after one that may be fatal.

    The driver decides about an *undecided* event at the next check. Until then it is a fault.
    """
    waits = undecided and reason not in before.decided
    after = replace(
        before,
        faults=before.faults | {reason},
        undecided=before.undecided | {reason} if waits else before.undecided - {reason},
        fault_at=now,
        proven_at=None,
        clean=0,
        energy=None,
        reset_seen=False,
    )
    after = _counted(before, after)
    return _in(after, DeviceState.LOST if reason == LOST else _unless_lost(before), now)


def after_acquittal(before: Condition, reason: Reason, now: float) -> Condition:
    """Return the condition after the driver has said that an undecided fault was none."""
    if reason not in before.undecided:
        return before
    if before.faults == {reason}:
        well = DeviceState.UNHEALTHY if before.ailments else DeviceState.HEALTHY
        return _in(_without_faults(before), well, now)
    return replace(before, faults=before.faults - {reason}, undecided=before.undecided - {reason})


def after_look(before: Condition, look: Look, recovery: Recovery, now: float) -> Condition:
    """Return the condition after a health check of the device."""
    before = aged(before, recovery, now)
    if look.hung:
        return _after_hung(before, Reason(ReasonKind.DRIVER_HANG, look.hung), now)
    before = _after_return_of_calls(before)
    if look.lost:
        again = LOST in before.faults
        return _unproven(before, now) if again else after_fault(before, LOST, now)
    if look.failed:
        return _after_failed(before, look, now)
    since = readiness.joining_since(before.joining_since, look.ready, now)
    found = look.ailments | readiness.ailments(before.ailments, look.ready, since, now)
    seen = replace(before, ailments=found, joining_since=since, doubts=0)
    seen = _after_decision(seen, look, recovery)
    if not seen.faults:
        well = DeviceState.UNHEALTHY if seen.ailments else DeviceState.HEALTHY
        return _in(seen, well, now)
    seen = _after_energy(seen, look.energy)
    proof = acquits(look.action) or (look.action is None and seen.reset_seen)
    proof = proof and (seen.fault_at is None or look.began > seen.fault_at)
    if not proof or recovery.mode is RecoveryMode.NEVER:
        return _in(replace(seen, proven_at=None, clean=0), DeviceState.UNHEALTHY, now)
    return _after_proof(seen, recovery, now)


def aged(before: Condition, recovery: Recovery, now: float) -> Condition:
    """Return the condition with the relapses that its quiet time has not made forgotten.

    The relapses are halved after 10 quiet periods without a fatal event since the recovery, and
    after each further 10. A day without one forgets all: the next fault is the first.
    """
    if before.faults or not before.recoveries:
        return before
    if before.recovered_at is None:  # saved by a version that did not keep the time
        return replace(before, recovered_at=now)
    quiet = now - before.recovered_at
    if quiet >= FORGET_AFTER:
        return replace(before, recoveries=0, relapses=0, recovered_at=None, halvings=0)
    stretch = HALF_LIFE * recovery.quiet_period
    due = int(quiet // stretch) if stretch else 0
    if due <= before.halvings or not before.relapses:
        return before
    return replace(before, relapses=before.relapses >> (due - before.halvings), halvings=due)


def after_return(before: Condition) -> Condition:
    """Return the condition of a device that was removed from the node and is back."""
    return replace(before, reset_seen=True) if before.faults else before


def after_mark(before: Condition, now: float) -> Condition:
    """Return the condition after an operator marked the device healthy."""
    return _recovered(before, now) if before.faults else before


def _counted(before: Condition, after: Condition) -> Condition:
    """Count a relapse if the first certain fault since a recovery came."""
    if before.decided or not after.decided:
        return after
    relapses = after.relapses + (after.recoveries > 0)
    return replace(after, relapses=relapses, recovered_at=None, halvings=0)


def _after_decision(before: Condition, look: Look, recovery: Recovery) -> Condition:
    """Clear the undecided faults if the driver says that the GPU needs no recovery.

    Otherwise they are faults like others from now on.
    """
    if not before.undecided or (before.fault_at or 0.0) + SETTLE > look.began:
        return before
    if not acquits(look.action) or recovery.mode is RecoveryMode.NEVER:
        return _counted(before, replace(before, undecided=frozenset()))
    if not before.decided:
        return _without_faults(before)
    return replace(before, faults=before.decided, undecided=frozenset())


def _without_faults(before: Condition) -> Condition:
    return replace(
        before,
        faults=frozenset(),
        undecided=frozenset(),
        fault_at=None,
        proven_at=None,
        clean=0,
        energy=None,
        reset_seen=False,
    )


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
    well = _without_faults(before)
    recovered = replace(well, recoveries=before.recoveries + 1, recovered_at=now, halvings=0)
    state = DeviceState.UNHEALTHY if recovered.ailments else DeviceState.HEALTHY
    return _in(recovered, state, now)


def _after_failed(before: Condition, look: Look, now: float) -> Condition:
    """Make a healthy device suspect after one failed check, unhealthy after the next.

    A device that was not reached is unhealthy at once, because no check says that it was healthy.
    """
    doubts = UNREADABLE if look.unreached else before.doubts + 1
    after = replace(before, doubts=doubts, proven_at=None, clean=0)
    if doubts >= UNREADABLE:
        unreadable = Reason(ReasonKind.UNREADABLE, look.failed)
        kept = {reason for reason in before.ailments if reason.kind is not ReasonKind.UNREADABLE}
        after = replace(after, ailments=frozenset(kept | {unreadable}))
    if after.reasons:
        return _in(after, _unless_lost(before), now)
    return _in(after, DeviceState.SUSPECT, now)


def _after_hung(before: Condition, hang: Reason, now: float) -> Condition:
    kept = {reason for reason in before.ailments if reason.kind is not ReasonKind.DRIVER_HANG}
    after = replace(before, ailments=frozenset(kept | {hang}), proven_at=None, clean=0)
    return _in(after, _unless_lost(before), now)


def _after_return_of_calls(before: Condition) -> Condition:
    """Return the condition without a hang, which counts as a failed check if this one fails too."""
    others = {reason for reason in before.ailments if reason.kind is not ReasonKind.DRIVER_HANG}
    if others == before.ailments:
        return before
    return replace(before, ailments=frozenset(others), doubts=before.doubts + 1)


def _unproven(before: Condition, now: float) -> Condition:
    after = replace(before, proven_at=None, clean=0, energy=None, reset_seen=False)
    return _in(after, DeviceState.LOST, now)


def _unless_lost(before: Condition) -> DeviceState:
    """Return UNHEALTHY; a lost device stays LOST until a check reaches it."""
    return DeviceState.LOST if before.state is DeviceState.LOST else DeviceState.UNHEALTHY


def _in(condition: Condition, state: DeviceState, now: float) -> Condition:
    if condition.state is state:
        return condition
    return replace(condition, state=state, since=now, transitions=condition.transitions + 1)
