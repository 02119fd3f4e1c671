"""The steps that every decision of a keeper is made of: wait for clients, quit, kill."""

from msgspec.structs import replace

from proto.mps import Phase
from supervisor import restart_policy
from supervisor.mps.commands import named
from supervisor.mps.kept import Decision, Do, Kept, Timing

RESTARTS = restart_policy.Limits()
"""How long to wait before a restart, as for all processes of this service."""

SOON = 0.05
"""Seconds until the next look while something is about to change."""

SLOWLY = 1.0
"""Most seconds between two looks while a device is not ready."""

WAITING = "; waiting for the end of its clients: "


def failed(kept: Kept, error: str, now: float) -> Kept:
    """Return what is known after a failure of the daemon; after a stable run it is the first."""
    stable = kept.ready_since is not None and now - kept.ready_since >= RESTARTS.stable
    failures = 1 if stable else kept.failures + 1
    return replace(kept, failures=failures, failed_at=now, error=error)


def waiting(kept: Kept, why: str) -> str:
    """Return a detail that names the clients."""
    return f"{why}{WAITING}{named(kept.clients)}"


def replace_daemon(kept: Kept, phase: Phase, why: str, now: float, timing: Timing) -> Decision:
    """End the daemon as soon as it has no clients."""
    if kept.clients and not kept.hurried:
        return Decision(replace(kept, phase=phase, detail=waiting(kept, why)), timing.poll)
    return end_daemon(kept, phase, why, now, force=kept.hurried)


def end_daemon(kept: Kept, phase: Phase, why: str, now: float, *, force: bool = False) -> Decision:
    """Tell the daemon to end; in the phase FAILED that is a failure."""
    kept = failed(kept, why, now) if phase is Phase.FAILED else kept
    quitting = replace(kept, phase=phase, detail=why, quitting=now, forced=force)
    return Decision(quitting, SOON, Do.QUIT_NOW if force else Do.QUIT)


def kill(kept: Kept, why: str) -> Decision:
    """Kill the daemon, because of what does not pass; it is another failure when it has ended."""
    killed = replace(kept, phase=Phase.FAILED, detail=why, error=why, forced=True)
    return Decision(killed, SLOWLY, Do.KILL)
