"""Decide what a keeper does next, from what it knows, what it sees and the time.

The order matters: first whether the daemon runs, then whether it answers, then its limits, then its
server. What waits for clients says so in the detail.
"""

from msgspec.structs import replace

from proto.mps import STOPPED, MpsShare, Phase
from supervisor import restart_policy
from supervisor.mps.commands import ClientLimits, difference
from supervisor.mps.kept import DaemonSeen, Decision, Do, Kept, Leaving, Timing
from supervisor.mps.serving import GRACE, with_server
from supervisor.mps.steps import (
    RESTARTS,
    SLOWLY,
    SOON,
    end_daemon,
    failed,
    kill,
    replace_daemon,
    waiting,
)

QUIT_LIMIT = 3.0
"""Seconds until a daemon that was told to end at once is killed."""

OTHER_LIMITS = "its limits change"

MAINTENANCE = "the node is under maintenance"

AGAIN = 3
"""Failures in a row that are told as such; a number in the detail would change all the time."""

OFTEN = f", at least {AGAIN} times in a row"

LIMITS_EVERY = 60.0
"""Seconds between two readings of limits that were right."""


def limited(kept: Kept, share: MpsShare) -> Kept:
    """Return what is known after the order to have the limits of *share*."""
    after = replace(kept, share=share)
    if kept.phase is Phase.READY and kept.has != after.wanted:
        # At once: it would be told as ready with the new share, until the next look.
        return replace(after, phase=Phase.DRAINING, detail=OTHER_LIMITS)
    return after


def maintained(kept: Kept, *, quiesced: bool) -> Kept:
    """Return what is known after the word that the node is under maintenance, or not any more."""
    after = replace(kept, quiesced=quiesced, rests=kept.rests and quiesced)
    if quiesced and kept.phase is Phase.READY:
        return replace(after, phase=Phase.DRAINING, detail=MAINTENANCE)
    return after


def ordered(found: Kept, before: Kept, now: Kept) -> Kept:
    """Return *found*, which was sought for *before*, with the orders that *now* has since then."""
    if now.share != before.share and found.pid and found.has is None:
        # It was started for the former limits, and its environment says so: it is replaced.
        found = replace(found, has=ClientLimits(memory_mib=-1))
    return replace(
        found,
        share=now.share,
        ending=now.ending,
        quiesced=now.quiesced,
        rests=found.rests and now.quiesced,
        hurried=now.hurried,
    )


def started(kept: Kept, pid: int, now: float) -> Kept:
    """Return what is known after a daemon was started."""
    return _of(kept, pid, now)


def adopted(kept: Kept, pid: int, has: ClientLimits | None, now: float) -> Kept:
    """Return what is known after a running daemon was found; *has*: the limits it was started for.

    None: it was started in another way.
    """
    return replace(_of(kept, pid, now), adopted=True, has=has or ClientLimits(memory_mib=-1))


def not_started(kept: Kept, error: str, now: float) -> Kept:
    """Return what is known after no daemon could be started."""
    return failed(replace(kept, phase=Phase.FAILED, detail=error), error, now)


def reads_limits(kept: Kept, server: int, now: float) -> bool:
    """Return whether a look has to read the limits too."""
    if kept.has is None:
        return False
    known = not server or kept.checked == (kept.pid, server)
    return not known or kept.read_at is None or now - kept.read_at >= LIMITS_EVERY


def decide(kept: Kept, seen: DaemonSeen, now: float, timing: Timing) -> Decision:
    """Return what to do after a look at the daemon."""
    if kept.ending is not Leaving.NONE and kept.phase is Phase.READY:
        kept = replace(kept, phase=Phase.DRAINING)
    if not seen.pid:
        return _without_daemon(_ended(kept, seen, now) if kept.pid else kept, now, timing)
    if kept.quitting is not None:
        return _while_it_quits(kept, seen, now, timing)
    if kept.ending is Leaving.NOW:
        return end_daemon(kept, Phase.DRAINING, "this service ends", now, force=True)
    if seen.trouble:
        return _without_answer(kept, seen, now, timing)
    return _with_answers(kept, seen, now, timing)


def _with_answers(kept: Kept, seen: DaemonSeen, now: float, timing: Timing) -> Decision:
    kept = _with_limits(replace(kept, heard=now, clients=seen.clients), seen, now)
    if kept.has is None:
        sent = replace(kept, has=kept.wanted, wrong="", read_at=None, checked=None)
        return Decision(sent, 0.0, Do.SEND_LIMITS)
    if kept.ending is Leaving.DRAIN:
        return replace_daemon(kept, Phase.DRAINING, "MPS no longer shares it", now, timing)
    if kept.quiesced:
        return replace_daemon(kept, Phase.DRAINING, MAINTENANCE, now, timing)
    if kept.has != kept.wanted:
        return replace_daemon(kept, Phase.DRAINING, OTHER_LIMITS, now, timing)
    if kept.wrong:
        return replace_daemon(kept, Phase.FAILED, kept.wrong, now, timing)
    return with_server(kept, seen, now, timing)


def _of(kept: Kept, pid: int, now: float) -> Kept:
    """Return what is known of a new daemon: only what does not belong to the former one."""
    return Kept(
        share=kept.share,
        ending=kept.ending,
        quiesced=kept.quiesced,
        pid=pid,
        began=now,
        heard=now,
        failures=kept.failures,
        failed_at=kept.failed_at,
        error=kept.error,
        restarts=kept.restarts,
        detail=kept.detail if kept.failures else "",
    )


def _ended(kept: Kept, seen: DaemonSeen, now: float) -> Kept:
    """Return what is known after the daemon's end."""
    after = replace(kept, pid=0, server=0, status=None, clients=(), hurried=False)
    if kept.quitting is not None and kept.phase is Phase.FAILED:
        return after
    if kept.quitting is not None:
        return replace(after, failures=0, error="")
    error = kept.error if kept.forced else seen.end
    return replace(failed(after, error, now), restarts=kept.restarts + 1)


def _without_daemon(kept: Kept, now: float, timing: Timing) -> Decision:
    if kept.ending is not Leaving.NONE:
        return Decision(kept, 0.0, Do.END)
    if kept.quiesced and kept.rests:
        return Decision(replace(kept, phase=Phase.DRAINING, detail=STOPPED), timing.poll)
    if kept.quiesced:  # FAILED: perhaps a daemon runs that cannot be adopted
        failed = kept.phase is Phase.FAILED
        resting = kept if failed else replace(kept, phase=Phase.DRAINING, detail=MAINTENANCE)
        return Decision(resting, 0.0, Do.REST)
    wait = kept.failed_at + restart_policy.backoff(kept.failures, RESTARTS) - now
    failing = kept.failures > 1 or kept.phase is Phase.FAILED
    kept = replace(kept, phase=Phase.FAILED if failing else Phase.STARTING, detail=_failures(kept))
    if wait > 0:
        return Decision(kept, wait)
    return Decision(kept, 0.0, Do.START)


def _failures(kept: Kept) -> str:
    return f"{kept.error}{OFTEN}" if kept.failures >= AGAIN else kept.error


def _while_it_quits(kept: Kept, seen: DaemonSeen, now: float, timing: Timing) -> Decision:
    kept = replace(kept, clients=seen.clients)
    hurry = kept.hurried or kept.ending is Leaving.NOW
    if hurry and not kept.forced:
        return Decision(replace(kept, forced=True, quitting=now), SOON, Do.QUIT_NOW)
    since = now - (kept.quitting or 0.0)
    if since >= (QUIT_LIMIT if kept.forced else timing.hang) and (kept.forced or not seen.clients):
        return Decision(kept, SOON, Do.KILL)
    return Decision(kept, SOON if since < SLOWLY else SLOWLY)


def _without_answer(kept: Kept, seen: DaemonSeen, now: float, timing: Timing) -> Decision:
    kept = replace(kept, clients=seen.clients, status=None)
    expected = now - max(kept.heard, kept.asked) < timing.hang
    hurry = kept.hurried and kept.phase is not Phase.STARTING
    leaving = kept.ending is Leaving.DRAIN or kept.quiesced
    if hurry or (not seen.clients and (not expected or leaving)):
        return kill(kept, seen.trouble)
    if kept.phase is Phase.STARTING and expected:
        return Decision(kept, min(SOON + max(0.0, now - kept.began) / 4, SLOWLY))
    if kept.phase is Phase.READY and now - kept.asked < GRACE:
        return Decision(kept, SOON)
    detail = waiting(kept, seen.trouble) if seen.clients else seen.trouble
    return Decision(replace(kept, phase=Phase.FAILED, detail=detail), min(timing.poll, SLOWLY))


def _with_limits(kept: Kept, seen: DaemonSeen, now: float) -> Kept:
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
