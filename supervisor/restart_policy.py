"""Decide the next state of a child process from its state, an event and the time."""

import enum

import msgspec
from msgspec.structs import replace


class State(enum.Enum):
    """The state of a child process."""

    STARTING = "starting"
    """The process is forked, but has not reported ready yet."""
    RUNNING = "running"
    """The process does its work and sends a heartbeat every second."""
    STOPPING = "stopping"
    """The process was ordered to stop."""
    KILLED = "killed"
    """The process was sent SIGKILL and is not reaped yet."""
    BACKOFF = "backoff"
    """There is no process; it is started at the deadline."""
    DOWN = "down"
    """There is no process and none is started again."""


class Limits(msgspec.Struct, frozen=True):
    """Timeouts and delays of a child process, in seconds."""

    start: float = 120.0
    """From the fork to ready, or to the first heartbeat if one comes earlier."""
    silence: float = 15.0
    """Between two heartbeats."""
    stop: float = 3.0
    """From the order to stop until the process ends; the service itself ends a little later."""
    reap: float = 5.0
    """From SIGKILL until the process counts as one that cannot be killed."""
    first_delay: float = 0.1
    """Before the restart after the second failure in a row; then it doubles."""
    last_delay: float = 30.0
    """The longest delay before a restart."""
    urgent_delay: float = 2.5
    """The longest delay before a restart of an essential child."""
    stable: float = 60.0
    """A process that ran this long resets the count of failures."""

    @property
    def end(self) -> float:
        """From the service's order to stop until it exits, even if a process still runs."""
        return self.stop + 1.5

    def for_urgent(self) -> "Limits":
        """Return the limits of a child that must restart before devices become Unhealthy."""
        return replace(self, last_delay=min(self.last_delay, self.urgent_delay))


class Child(msgspec.Struct, frozen=True):
    """What the supervisor knows about a child process."""

    state: State
    since: float
    """When this state began."""
    heard: float
    """When the last heartbeat came."""
    wanted: bool = True
    """Whether to restart the process when it ends."""
    failures: int = 0
    """How often the process failed in a row, without a stable run between."""
    starts: int = 0
    """How often the process was started."""
    excused: bool = False
    """Whether its silence was excused once, since it was last heard."""
    leaving: bool = False
    """Whether the process is to withdraw; until it is done, one that fails is restarted."""


ALIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING, State.KILLED})
"""States in which there is a process."""

ATTENTIVE = frozenset({State.STARTING, State.RUNNING})
"""States in which the process takes orders."""


def new(now: float) -> Child:
    """Return a child that is started at once."""
    return Child(State.BACKOFF, since=now, heard=now)


def started(child: Child, now: float) -> Child:
    """Return *child* after the fork of its process."""
    starts = child.starts + 1
    return replace(child, state=State.STARTING, since=now, heard=now, starts=starts, excused=False)


def heard(child: Child, now: float, *, ready: bool = False) -> Child:
    """Return *child* after a heartbeat, or with *ready* after the report that it is ready."""
    if ready and child.state is State.STARTING:
        return replace(child, state=State.RUNNING, since=now, heard=now, excused=False)
    return replace(child, heard=now, excused=False)


def excused(child: Child, now: float) -> Child:
    """Return *child* after the machine stood still, during which no process could be heard.

    Its time limits begin again, but only once until it is heard: a process that hangs is killed
    even if the machine stands still again and again.
    """
    if child.excused or child.state not in ATTENTIVE:
        return child
    silent = child.state is State.STARTING and child.heard == child.since
    return replace(child, heard=now, since=now if silent else child.since, excused=True)


def settled(child: Child) -> bool:
    """Return whether *child* has done what it was last told: it is ready, has ended, or failed."""
    return child.failures > 0 or child.state not in {State.STARTING, State.STOPPING}


def unwanted(child: Child, now: float) -> Child:
    """Return *child* after the order to stop, without a restart."""
    match child.state:
        case State.STARTING | State.RUNNING:
            return replace(child, state=State.STOPPING, since=now, wanted=False)
        case State.STOPPING | State.KILLED:
            return replace(child, wanted=False)
        case State.BACKOFF | State.DOWN:
            return replace(child, state=State.DOWN, since=now, wanted=False)


def wanted(child: Child, now: float) -> Child:
    """Return *child* after it is needed again; a process that is stopping restarts when it ends."""
    if child.state is State.DOWN:
        return replace(new(now), starts=child.starts)
    return replace(child, wanted=True, leaving=False)


def leaving(child: Child, now: float) -> Child:
    """Return *child* after the order to withdraw, for which it has any time it needs."""
    return replace(wanted(child, now), leaving=True)


def killed(child: Child, now: float, limits: Limits) -> Child:
    """Return *child* after its process was sent SIGKILL."""
    failures = 0 if _stable(child, now, limits) else child.failures
    return replace(child, state=State.KILLED, since=now, failures=failures)


def endured(child: Child, now: float) -> Child:
    """Return *child* after SIGKILL had no effect; keep waiting for the end of the process."""
    return replace(child, since=now)


def _stable(child: Child, now: float, limits: Limits) -> bool:
    return child.state is State.RUNNING and now - child.since >= limits.stable


def exited(child: Child, now: float, limits: Limits, *, well: bool = False) -> Child:
    """Return *child* after its process ended; with *well* the end does not count as a failure.

    Call it too when a fork failed, or when a process that cannot be killed is abandoned.
    """
    if not child.wanted or (well and child.leaving):
        return replace(child, state=State.DOWN, since=now, wanted=False, failures=0)
    failures = 0 if _stable(child, now, limits) else child.failures
    failures = 0 if well or child.state is State.STOPPING else failures + 1
    return replace(child, state=State.BACKOFF, since=now, failures=failures)


def backoff(failures: int, limits: Limits) -> float:
    """Return the seconds until the restart: 0 after the first failure, then doubling."""
    if failures <= 1:
        return 0.0
    return min(limits.first_delay * 2.0 ** min(failures - 2, 30), limits.last_delay)


def deadline(child: Child, limits: Limits) -> float | None:
    """Return when *child* has to be acted on if no event comes first; None: never."""
    match child.state:
        case State.STARTING if child.heard == child.since:
            return child.since + limits.start
        case State.STARTING:
            return child.heard + limits.silence
        case State.RUNNING:
            return child.heard + limits.silence
        case State.STOPPING:
            return child.since + limits.stop
        case State.BACKOFF:
            return child.since + backoff(child.failures, limits)
        case State.KILLED:
            return child.since + limits.reap
        case State.DOWN:
            return None
