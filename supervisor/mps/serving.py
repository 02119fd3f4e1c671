"""Decide what a keeper does about the server of a daemon that answers and has the right limits."""

from msgspec.structs import replace

from proto.mps import Phase, ServerStatus
from supervisor import restart_policy
from supervisor.mps.commands import difference
from supervisor.mps.kept import DaemonSeen, Decision, Do, Kept, Timing
from supervisor.mps.steps import RESTARTS, SLOWLY, SOON, end_daemon, kill, waiting

GRACE = 2.0
"""Seconds that a device stays ready without a server: one starts in 0.3 s, and clients wait."""

MANY = 3
"""Servers that did not start in a row, until the device is failed."""


def with_server(kept: Kept, seen: DaemonSeen, now: float, timing: Timing) -> Decision:
    """Return what to do with a daemon that answers and has the right limits."""
    kept = replace(kept, status=seen.status)
    if seen.server != kept.server:
        kept = replace(kept, server=seen.server, closing=0, odd=None)
    if not seen.server or seen.status is None:
        return _without_server(kept, now)
    match seen.status:
        case ServerStatus.INITIALIZING:
            return _odd(kept, "its server is INITIALIZING", now, timing)
        case ServerStatus.FAULT:
            return _in_fault(kept, now, timing)
        case ServerStatus.ACTIVE:
            return _active(kept, seen, now, timing)


def _patient(kept: Kept, why: str, now: float, do: Do | None = None) -> Decision:
    """Return that a server is about to come, for which a device that is ready need not suffer."""
    lost = now if kept.lost is None else kept.lost
    kept = replace(kept, lost=lost)
    if kept.phase is not Phase.READY or now - lost >= GRACE:
        kept = replace(kept, phase=Phase.STARTING, detail=why)
    return Decision(kept, SOON, do)


def _without_server(kept: Kept, now: float) -> Decision:
    pause = max(restart_policy.backoff(kept.attempts, RESTARTS), SOON) if kept.attempts else 0.0
    wait = kept.asked + pause - now
    if kept.attempts < MANY:
        decision = _patient(kept, "its server starts", now)
    else:
        why = "its server does not start; see what the daemon logged"
        decision = Decision(replace(kept, phase=Phase.FAILED, detail=why), SOON)
    if wait > 0:
        return replace(decision, wait=wait)
    asked = replace(decision.kept, attempts=kept.attempts + 1, asked=now)
    return Decision(asked, SOON, Do.START_SERVER)


def _odd(kept: Kept, why: str, now: float, timing: Timing) -> Decision:
    """Return what to do about something that should pass; after too long the daemon is replaced."""
    since = now if kept.odd is None else kept.odd
    kept = replace(kept, odd=since)
    if now - since < timing.hang:
        return _patient(kept, why, now)
    long = f"{why}, for more than {timing.hang:g} s"
    if kept.clients and not kept.hurried:
        blocked = replace(kept, phase=Phase.FAILED, detail=waiting(kept, long))
        return Decision(blocked, min(timing.poll, SLOWLY))
    return kill(kept, long)


def _in_fault(kept: Kept, now: float, timing: Timing) -> Decision:
    why = "a client's fault stopped its server"
    if kept.hurried:
        return end_daemon(kept, Phase.FAULT, why, now, force=True)
    if kept.clients:
        blocked = replace(kept, phase=Phase.FAULT, detail=waiting(kept, why), odd=None)
        return Decision(blocked, min(timing.poll, SLOWLY))
    decision = _odd(kept, why, now, timing)
    if decision.do is Do.KILL:
        return decision
    return replace(decision, kept=replace(decision.kept, phase=Phase.FAULT, detail=why))


def _active(kept: Kept, seen: DaemonSeen, now: float, timing: Timing) -> Decision:
    if kept.closing:
        why = "its server makes room for a new one"
        return _shutting(kept, why, now, timing)
    if kept.checked != (seen.pid, seen.server):
        return _unchecked(kept, seen, now, timing)
    if not seen.clients and seen.departed:
        # Hardware has shown that the next client would often fail; see docs/decisions/0014-mps.md.
        closing = replace(kept, closing=seen.server, odd=None)
        return _patient(closing, "its server is replaced", now, Do.SHUT_SERVER)
    ready = replace(
        kept,
        phase=Phase.READY,
        detail="",
        attempts=0,
        odd=None,
        lost=None,
        hurried=False,
        ready_since=now if kept.ready_since is None else kept.ready_since,
    )
    return Decision(ready, timing.poll)


def _unchecked(kept: Kept, seen: DaemonSeen, now: float, timing: Timing) -> Decision:
    """Return what to do with a server whose limits are wrong, or not read yet."""
    if seen.of_server is None:
        return _patient(replace(kept, checked=None), "its limits are not read yet", now)
    wrong = difference(seen.of_server, kept.has or kept.wanted)
    why = f"its server has other limits: {wrong}"
    if kept.clients and not kept.hurried:
        blocked = replace(kept, phase=Phase.FAILED, detail=waiting(kept, why))
        return Decision(blocked, timing.poll)
    if kept.attempts >= MANY or kept.hurried:
        return end_daemon(kept, Phase.FAILED, why, now, force=kept.hurried)
    closing = replace(kept, closing=seen.server, odd=None, phase=Phase.STARTING, detail=why)
    return Decision(replace(closing, attempts=kept.attempts + 1), SOON, Do.SHUT_SERVER)


def _shutting(kept: Kept, why: str, now: float, timing: Timing) -> Decision:
    """Return what to do while the server ends: a client may have come at the last moment."""
    if kept.clients and not kept.hurried:
        blocked = replace(kept, phase=Phase.DRAINING, detail=waiting(kept, why), odd=None)
        return Decision(blocked, min(timing.poll, SLOWLY))
    if kept.hurried:
        return end_daemon(kept, Phase.DRAINING, why, now, force=True)
    return _odd(kept, why, now, timing)
