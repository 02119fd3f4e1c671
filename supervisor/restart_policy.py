"""What becomes of a child: a state and an event in, the next state out; time is an argument."""

import enum
from dataclasses import dataclass, replace


class State(enum.Enum):
    """Where a child is in its life."""

    STARTING = "starting"
    """Forked; it has not yet said that it does its work."""
    RUNNING = "running"
    """Does its work, and says so every second."""
    STOPPING = "stopping"
    """Was asked to end."""
    KILLED = "killed"
    """Was sent SIGKILL and is not reaped yet."""
    BACKOFF = "backoff"
    """Gone; it is started again at its deadline."""
    DOWN = "down"
    """Gone for good."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds."""

    start: float = 120.0
    """Until a child says ready; a driver may need many seconds for each GPU."""
    silence: float = 15.0
    """Between two beats."""
    stop: float = 3.0
    """From the order to stop to the end."""
    reap: float = 5.0
    """From SIGKILL until a process counts as one that cannot be killed."""
    first_delay: float = 0.1
    last_delay: float = 30.0
    urgent_delay: float = 2.5
    """In place of the last delay, for a child without which nothing is known of any device."""
    stable: float = 60.0
    """After so long a life, earlier failures are forgotten."""

    def for_urgent(self) -> "Limits":
        """Return the limits of a child that must be back before its silence is felt."""
        return replace(self, last_delay=min(self.last_delay, self.urgent_delay))


@dataclass(frozen=True, slots=True)
class Child:
    """A child as the supervisor thinks of it."""

    state: State
    since: float
    """When it came into this state."""
    heard: float
    """The last sign of life."""
    wanted: bool = True
    """Start it again when it ends."""
    failures: int = 0
    """Ends in a row without a stable life between."""
    starts: int = 0


ALIVE = frozenset({State.STARTING, State.RUNNING, State.STOPPING, State.KILLED})
"""States in which there is a process."""

ATTENTIVE = frozenset({State.STARTING, State.RUNNING})
"""States in which orders make sense."""


def new(now: float) -> Child:
    """Return a child that is to be started at once."""
    return Child(State.BACKOFF, since=now, heard=now)


def started(child: Child, now: float) -> Child:
    """Return *child* after its process was forked."""
    return replace(child, state=State.STARTING, since=now, heard=now, starts=child.starts + 1)


def heard(child: Child, now: float, *, ready: bool = False) -> Child:
    """Return *child* after a sign of life, which *ready* makes the one that it does its work."""
    if ready and child.state is State.STARTING:
        return replace(child, state=State.RUNNING, since=now, heard=now)
    return replace(child, heard=now)


def unwanted(child: Child, now: float) -> Child:
    """Return *child* after it was asked to end, for good."""
    match child.state:
        case State.STARTING | State.RUNNING:
            return replace(child, state=State.STOPPING, since=now, wanted=False)
        case State.STOPPING | State.KILLED:
            return replace(child, wanted=False)
        case State.BACKOFF | State.DOWN:
            return replace(child, state=State.DOWN, since=now, wanted=False)


def wanted(child: Child, now: float) -> Child:
    """Return *child* after it is needed once more; one that is ending comes back after its end."""
    if child.state is State.DOWN:
        return replace(new(now), starts=child.starts)
    return replace(child, wanted=True)


def killed(child: Child, now: float, limits: Limits) -> Child:
    """Return *child* after SIGKILL was sent."""
    failures = 0 if _stable(child, now, limits) else child.failures
    return replace(child, state=State.KILLED, since=now, failures=failures)


def endured(child: Child, now: float) -> Child:
    """Return *child* after its process did not die, and has to be waited for all the same."""
    return replace(child, since=now)


def _stable(child: Child, now: float, limits: Limits) -> bool:
    return child.state is State.RUNNING and now - child.since >= limits.stable


def exited(child: Child, now: float, limits: Limits, *, well: bool = False) -> Child:
    """Return *child* after its process is gone; *well*: that is no failure.

    So it is too after one could not be made, or could not be killed and was abandoned.
    """
    if not child.wanted:
        return replace(child, state=State.DOWN, since=now, failures=0)
    failures = 0 if _stable(child, now, limits) else child.failures
    failures = 0 if well or child.state is State.STOPPING else failures + 1
    return replace(child, state=State.BACKOFF, since=now, failures=failures)


def backoff(failures: int, limits: Limits) -> float:
    """Return the seconds until the next start: none after the first failure, then doubling."""
    if failures <= 1:
        return 0.0
    return min(limits.first_delay * 2.0 ** min(failures - 2, 30), limits.last_delay)


def deadline(child: Child, limits: Limits) -> float | None:
    """Return when *child* needs attention though nothing happens; None if never."""
    match child.state:
        case State.STARTING:
            return child.heard + limits.start
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
