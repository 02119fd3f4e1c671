"""Decide what a keeper does next, from what it knows, what it sees and the time.

The order matters: first whether the daemon runs, then whether it answers, then its limits, then its
server. What waits for clients says so in the detail.
"""

from dataclasses import replace

from proto.mps import MpsShare, Phase, ServerStatus
from supervisor import restart_policy
from supervisor.mps.commands import Limits, difference, named
from supervisor.mps.kept import Decision, Do, Ending, Kept, Seen, Timing

RESTARTS = restart_policy.Limits()
"""How long to wait before a restart, as for all processes of this service."""

SOON = 0.05
"""Seconds until the next look while something is about to change."""

GRACE = 2.0
"""Seconds that a device stays ready without a server: one starts in 0.3 s, and clients wait."""

MANY = 3
"""Servers that did not start in a row, until the device is failed."""

QUIT_LIMIT = 3.0
"""Seconds until a daemon that was told to end at once is killed."""

LIMITS_EVERY = 60.0
"""Seconds between two readings of limits that were right."""

SLOWLY = 1.0
"""Most seconds between two looks while a device is not ready."""


WAITING = "; waiting for the end of its clients: "


def limited(kept: Kept, share: MpsShare) -> Kept:
    """Return what is known after the order to have the limits of *share*."""
    return replace(kept, share=share)


def started(kept: Kept, pid: int, now: float) -> Kept:
    """Return what is known after a daemon was started."""
    return _of(kept, pid, now)


def adopted(kept: Kept, pid: int, has: Limits | None, now: float) -> Kept:
    """Return what is known after a running daemon was found; *has*: the limits it was started for.

    None: it was started in another way.
    """
    return replace(_of(kept, pid, now), adopted=True, has=has or Limits(memory_mib=-1))


def not_started(kept: Kept, error: str, now: float) -> Kept:
    """Return what is known after no daemon could be started."""
    return _failed(replace(kept, phase=Phase.FAILED, detail=error), error, now)


def reads_limits(kept: Kept, server: int, now: float) -> bool:
    """Return whether a look has to read the limits too."""
    if kept.has is None:
        return False
    known = not server or kept.checked == (kept.pid, server)
    return not known or kept.read_at is None or now - kept.read_at >= LIMITS_EVERY


def decide(kept: Kept, seen: Seen, now: float, timing: Timing) -> Decision:
    """Return what to do after a look at the daemon."""
    if not seen.pid:
        return _without_daemon(_ended(kept, seen, now) if kept.pid else kept, now)
    if kept.quitting is not None:
        return _while_it_quits(kept, seen, now, timing)
    if kept.ending is Ending.NOW:
        return _quit(kept, Phase.DRAINING, "this service ends", now, force=True)
    if seen.trouble:
        return _without_answer(kept, seen, now, timing)
    return _with_answers(kept, seen, now, timing)


def _with_answers(kept: Kept, seen: Seen, now: float, timing: Timing) -> Decision:
    kept = _with_limits(replace(kept, heard=now, clients=seen.clients), seen, now)
    if kept.has is None:
        sent = replace(kept, has=kept.wanted, wrong="", read_at=None, checked=None)
        return Decision(sent, 0.0, Do.SEND_LIMITS)
    if kept.ending is Ending.DRAIN:
        return _replace(kept, Phase.DRAINING, "MPS no longer shares it", now, timing)
    if kept.has != kept.wanted:
        return _replace(kept, Phase.DRAINING, "its limits change", now, timing)
    if kept.wrong:
        return _replace(kept, Phase.FAILED, kept.wrong, now, timing)
    return _with_server(kept, seen, now, timing)


def _of(kept: Kept, pid: int, now: float) -> Kept:
    """Return what is known of a new daemon: only what does not belong to the former one."""
    return Kept(
        share=kept.share,
        ending=kept.ending,
        pid=pid,
        began=now,
        heard=now,
        failures=kept.failures,
        failed_at=kept.failed_at,
        error=kept.error,
        restarts=kept.restarts,
        detail=kept.detail if kept.failures else "",
    )


def _failed(kept: Kept, error: str, now: float) -> Kept:
    stable = kept.ready_since is not None and now - kept.ready_since >= RESTARTS.stable
    failures = 1 if stable else kept.failures + 1
    return replace(kept, failures=failures, failed_at=now, error=error)


def _ended(kept: Kept, seen: Seen, now: float) -> Kept:
    """Return what is known after the daemon's end."""
    after = replace(kept, pid=0, server=0, status=None, clients=(), hurried=False)
    if kept.quitting is not None:
        return after
    error = kept.error if kept.forced else seen.end
    return replace(_failed(after, error, now), restarts=kept.restarts + 1)


def _without_daemon(kept: Kept, now: float) -> Decision:
    if kept.ending is not Ending.NONE:
        return Decision(kept, 0.0, Do.END)
    wait = kept.failed_at + restart_policy.backoff(kept.failures, RESTARTS) - now
    failing = kept.failures > 1 or kept.phase is Phase.FAILED
    kept = replace(kept, phase=Phase.FAILED if failing else Phase.STARTING, detail=_failures(kept))
    if wait > 0:
        return Decision(kept, wait)
    return Decision(kept, 0.0, Do.START)


def _failures(kept: Kept) -> str:
    return kept.error if kept.failures <= 1 else f"failed {kept.failures} times: {kept.error}"


def _while_it_quits(kept: Kept, seen: Seen, now: float, timing: Timing) -> Decision:
    kept = replace(kept, clients=seen.clients)
    hurry = kept.hurried or kept.ending is Ending.NOW
    if hurry and not kept.forced:
        return Decision(replace(kept, forced=True, quitting=now), SOON, Do.QUIT_NOW)
    since = now - (kept.quitting or 0.0)
    if since >= (QUIT_LIMIT if kept.forced else timing.hang) and (kept.forced or not seen.clients):
        return Decision(kept, SOON, Do.KILL)
    return Decision(kept, SOON if since < SLOWLY else SLOWLY)


def _quit(kept: Kept, phase: Phase, why: str, now: float, *, force: bool = False) -> Decision:
    """Tell the daemon to end; in the phase FAILED that is a failure."""
    kept = _failed(kept, why, now) if phase is Phase.FAILED else kept
    quitting = replace(kept, phase=phase, detail=why, quitting=now, forced=force)
    return Decision(quitting, SOON, Do.QUIT_NOW if force else Do.QUIT)


def _replace(kept: Kept, phase: Phase, why: str, now: float, timing: Timing) -> Decision:
    """End the daemon as soon as it has no clients."""
    if kept.clients and not kept.hurried:
        return Decision(replace(kept, phase=phase, detail=_waiting(kept, why)), timing.poll)
    return _quit(kept, phase, why, now, force=kept.hurried)


def _waiting(kept: Kept, why: str) -> str:
    return f"{why}{WAITING}{named(kept.clients)}"


def _kill(kept: Kept, why: str) -> Decision:
    failed = replace(kept, phase=Phase.FAILED, detail=why, error=why, forced=True)
    return Decision(failed, SLOWLY, Do.KILL)


def _without_answer(kept: Kept, seen: Seen, now: float, timing: Timing) -> Decision:
    kept = replace(kept, clients=seen.clients, status=None)
    expected = now - max(kept.heard, kept.asked) < timing.hang
    if kept.hurried or (not seen.clients and (not expected or kept.ending is Ending.DRAIN)):
        return _kill(kept, seen.trouble)
    if kept.phase is Phase.STARTING and expected:
        return Decision(kept, min(SOON + (now - kept.began) / 4, SLOWLY))
    if kept.phase is Phase.READY and now - kept.asked < GRACE:
        return Decision(kept, SOON)
    detail = _waiting(kept, seen.trouble) if seen.clients else seen.trouble
    return Decision(replace(kept, phase=Phase.FAILED, detail=detail), min(timing.poll, SLOWLY))


def _with_limits(kept: Kept, seen: Seen, now: float) -> Kept:
    """Return what is known after the limits were read, if they were."""
    if seen.defaults is None or kept.has is None:
        return kept
    has = kept.has
    wrong = difference(seen.defaults, has)
    kept = replace(kept, wrong=wrong, read_at=now)
    if wrong or seen.of_server is None:
        return replace(kept, checked=None)
    right = not difference(seen.of_server, has)
    return replace(kept, checked=(seen.pid, seen.server) if right else None)


def _with_server(kept: Kept, seen: Seen, now: float, timing: Timing) -> Decision:
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
        why = f"its server did not start {kept.attempts} times in a row; see the log for the cause"
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
        waiting = replace(kept, phase=Phase.FAILED, detail=_waiting(kept, long))
        return Decision(waiting, min(timing.poll, SLOWLY))
    return _kill(kept, long)


def _in_fault(kept: Kept, now: float, timing: Timing) -> Decision:
    why = "a client's fault stopped its server"
    if kept.hurried:
        return _quit(kept, Phase.FAULT, why, now, force=True)
    if kept.clients:
        waiting = replace(kept, phase=Phase.FAULT, detail=_waiting(kept, why), odd=None)
        return Decision(waiting, min(timing.poll, SLOWLY))
    decision = _odd(kept, why, now, timing)
    if decision.do is Do.KILL:
        return decision
    return replace(decision, kept=replace(decision.kept, phase=Phase.FAULT, detail=why))


def _active(kept: Kept, seen: Seen, now: float, timing: Timing) -> Decision:
    if kept.closing:
        why = "its server makes room for a new one"
        return _shutting(kept, why, now, timing)
    if kept.checked != (seen.pid, seen.server):
        return _unchecked(kept, seen, now, timing)
    if not seen.clients and seen.departed:
        # Hardware has shown that the next client would often fail; see docs/decisions/0013-mps.md.
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


def _unchecked(kept: Kept, seen: Seen, now: float, timing: Timing) -> Decision:
    """Return what to do with a server whose limits are wrong, or not read yet."""
    if seen.of_server is None:
        return _patient(replace(kept, checked=None), "its limits are not read yet", now)
    wrong = difference(seen.of_server, kept.has or kept.wanted)
    why = f"its server has other limits: {wrong}"
    if kept.clients and not kept.hurried:
        waiting = replace(kept, phase=Phase.FAILED, detail=_waiting(kept, why))
        return Decision(waiting, timing.poll)
    if kept.attempts >= MANY or kept.hurried:
        return _quit(kept, Phase.FAILED, why, now, force=kept.hurried)
    closing = replace(kept, closing=seen.server, odd=None, phase=Phase.STARTING, detail=why)
    return Decision(replace(closing, attempts=kept.attempts + 1), SOON, Do.SHUT_SERVER)


def _shutting(kept: Kept, why: str, now: float, timing: Timing) -> Decision:
    """Return what to do while the server ends: a client may have come at the last moment."""
    if kept.clients and not kept.hurried:
        waiting = replace(kept, phase=Phase.DRAINING, detail=_waiting(kept, why), odd=None)
        return Decision(waiting, min(timing.poll, SLOWLY))
    if kept.hurried:
        return _quit(kept, Phase.DRAINING, why, now, force=True)
    return _odd(kept, why, now, timing)
