"""The restart policy: the state of a child process after each event."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from supervisor import restart_policy
from supervisor.restart_policy import Child, Limits, State

LIMITS = Limits()
NOW = 100.0

STARTING, RUNNING, STOPPING, KILLED, BACKOFF, DOWN = State

EVENTS: dict[str, Callable[[Child], Child]] = {
    "started": lambda child: restart_policy.started(child, NOW),
    "heard": lambda child: restart_policy.heard(child, NOW),
    "ready": lambda child: restart_policy.heard(child, NOW, ready=True),
    "unwanted": lambda child: restart_policy.unwanted(child, NOW),
    "wanted": lambda child: restart_policy.wanted(child, NOW),
    "leaving": lambda child: restart_policy.leaving(child, NOW),
    "killed": lambda child: restart_policy.killed(child, NOW, LIMITS),
    "exited": lambda child: restart_policy.exited(child, NOW, LIMITS),
}

BEFORE = Child(STARTING, since=90.0, heard=95.0, wanted=True, failures=3, starts=5)

HEARD: dict[str, Any] = {"heard": NOW}
BORN = {"state": STARTING, "since": NOW, "heard": NOW, "starts": 6}
SENT_KILL = {"state": KILLED, "since": NOW}
FAILED = {"state": BACKOFF, "since": NOW, "failures": 4}
GONE_FOR_GOOD = {"state": DOWN, "since": NOW, "wanted": False}
ENDING = {"state": STOPPING, "since": NOW, "wanted": False}
LEAVING = {"leaving": True}
NOTHING: dict[str, Any] = {}

TABLE: dict[str, dict[State, dict[str, Any]]] = {
    "started": dict.fromkeys(State, BORN),
    "heard": dict.fromkeys(State, HEARD),
    "ready": {
        STARTING: {"state": RUNNING, "since": NOW, "heard": NOW},
        RUNNING: HEARD,
        STOPPING: HEARD,
        KILLED: HEARD,
        BACKOFF: HEARD,
        DOWN: HEARD,
    },
    "unwanted": {
        STARTING: ENDING,
        RUNNING: ENDING,
        STOPPING: {"wanted": False},
        KILLED: {"wanted": False},
        BACKOFF: GONE_FOR_GOOD,
        DOWN: GONE_FOR_GOOD,
    },
    "wanted": {
        STARTING: NOTHING,
        RUNNING: NOTHING,
        STOPPING: NOTHING,
        KILLED: NOTHING,
        BACKOFF: NOTHING,
        DOWN: {"state": BACKOFF, "since": NOW, "heard": NOW, "failures": 0},
    },
    "leaving": {
        STARTING: LEAVING,
        RUNNING: LEAVING,
        STOPPING: LEAVING,
        KILLED: LEAVING,
        BACKOFF: LEAVING,
        DOWN: {"state": BACKOFF, "since": NOW, "heard": NOW, "failures": 0, **LEAVING},
    },
    "killed": dict.fromkeys(State, SENT_KILL),
    "exited": {
        STARTING: FAILED,
        RUNNING: FAILED,
        STOPPING: {"state": BACKOFF, "since": NOW, "failures": 0},
        KILLED: FAILED,
        BACKOFF: FAILED,
        DOWN: FAILED,
    },
}
"""What each event changes in a wanted child, by the child's state before it."""

CASES = [(event, state, TABLE[event][state]) for event in EVENTS for state in State]


@pytest.mark.parametrize(
    ("event", "state", "changes"), CASES, ids=[f"{e}-{s.value}" for e, s, _ in CASES]
)
def test_every_event_in_every_state(event: str, state: State, changes: dict[str, Any]) -> None:
    """Each event changes a child exactly as in the table."""
    child = replace(BEFORE, state=state)
    assert EVENTS[event](child) == replace(child, **changes)


@pytest.mark.parametrize("state", State)
def test_an_unwanted_child_is_down_after_its_end(state: State) -> None:
    """An unwanted child that ends is down, and its failures are reset."""
    child = replace(BEFORE, state=state, wanted=False)
    after = restart_policy.exited(child, NOW, LIMITS)
    assert after == replace(child, state=DOWN, since=NOW, failures=0)


@pytest.mark.parametrize("state", [STARTING, RUNNING])
def test_a_child_that_withdraws_may_take_its_time(state: State) -> None:
    """A child that withdraws is only watched as before, restarted if it fails, and down if not."""
    child = restart_policy.leaving(replace(BEFORE, state=state), NOW)
    assert restart_policy.deadline(child, LIMITS) == BEFORE.heard + LIMITS.silence
    assert restart_policy.exited(child, NOW, LIMITS).state is BACKOFF
    done = restart_policy.exited(child, NOW, LIMITS, well=True)
    assert (done.state, done.wanted) == (DOWN, False)
    stopped = restart_policy.unwanted(child, NOW)
    assert restart_policy.deadline(stopped, LIMITS) == NOW + LIMITS.stop
    assert restart_policy.wanted(child, NOW).leaving is False


@pytest.mark.parametrize("state", State)
def test_a_child_whose_resource_returns_is_wanted(state: State) -> None:
    """A child whose resource returns is wanted again, even while it is stopping."""
    child = replace(BEFORE, state=state, wanted=False)
    assert restart_policy.wanted(child, NOW).wanted is True


def test_a_new_child_is_started_at_once() -> None:
    """A new child is due to start at once."""
    child = restart_policy.new(NOW)
    assert child == Child(BACKOFF, since=NOW, heard=NOW, wanted=True, failures=0, starts=0)
    assert restart_policy.deadline(child, LIMITS) == NOW


@pytest.mark.parametrize(
    ("state", "life", "failures"),
    [
        (RUNNING, 59.9, 4),
        (RUNNING, 60.0, 1),
        (RUNNING, 86400.0, 1),
        (STARTING, 86400.0, 4),
    ],
    ids=["short life", "a minute", "a day", "never ready"],
)
def test_a_minute_of_running_resets_failures(state: State, life: float, failures: int) -> None:
    """An exit after a minute of running counts as the first failure; earlier, as one more."""
    child = replace(BEFORE, state=state, since=NOW - life)
    assert restart_policy.exited(child, NOW, LIMITS).failures == failures


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [
        (0, 0.0),
        (1, 0.0),
        (2, 0.1),
        (3, 0.2),
        (4, 0.4),
        (9, 12.8),
        (10, 25.6),
        (11, 30.0),
        (12, 30.0),
        (1_000_000, 30.0),
    ],
)
def test_backoff(failures: int, seconds: float) -> None:
    """The first restart is at once; the next wait 0.1 s, doubling up to 30 s."""
    assert restart_policy.backoff(failures, LIMITS) == pytest.approx(seconds)


def test_backoff_has_configured_limits() -> None:
    """The first and the longest delay are those of the limits."""
    limits = Limits(first_delay=2.0, last_delay=5.0)
    assert [restart_policy.backoff(n, limits) for n in range(1, 6)] == [0.0, 2.0, 4.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("state", "deadline"),
    [
        (STARTING, 95.0 + 15.0),
        (RUNNING, 95.0 + 15.0),
        (STOPPING, 90.0 + 3.0),
        (KILLED, 90.0 + 5.0),
        (BACKOFF, 90.0 + 0.2),
        (DOWN, None),
    ],
    ids=[state.value for state in State],
)
def test_the_deadline_of_each_state(state: State, deadline: float | None) -> None:
    """Each state has its deadline, also after a kill; a child that is down has none."""
    assert restart_policy.deadline(replace(BEFORE, state=state), LIMITS) == deadline


def test_a_start_without_a_heartbeat_has_more_time() -> None:
    """A child that loads what it needs cannot send heartbeats yet."""
    silent = replace(BEFORE, state=STARTING, heard=90.0)
    assert restart_policy.deadline(silent, LIMITS) == 90.0 + 120.0


def test_states_with_a_process_and_states_that_take_orders() -> None:
    """Only backoff and down have no process; orders go to starting and running children."""
    assert frozenset(State) - {BACKOFF, DOWN} == restart_policy.ALIVE
    assert frozenset({STARTING, RUNNING}) == restart_policy.ATTENTIVE


def running(**fields: Any) -> Child:
    """Return a child that runs since 80 and was heard at 95."""
    return replace(Child(RUNNING, since=80.0, heard=95.0), **fields)


def test_a_standstill_begins_the_time_limits_again() -> None:
    """Nothing could be heard while the machine stood still."""
    excused = restart_policy.excused(running(), NOW)
    assert restart_policy.deadline(excused, LIMITS) == NOW + LIMITS.silence
    assert excused.since == running().since


def test_a_process_that_hangs_is_excused_only_once() -> None:
    """A process that is not heard is killed although the machine stands still again and again."""
    child = restart_policy.excused(running(), NOW)
    for later in (10.0, 20.0, 30.0):
        child = restart_policy.excused(child, NOW + later)
    assert restart_policy.deadline(child, LIMITS) == NOW + LIMITS.silence
    heard = restart_policy.heard(child, NOW + 40)
    assert restart_policy.excused(heard, NOW + 50).heard == NOW + 50


def test_a_start_during_a_standstill_keeps_its_long_limit() -> None:
    """A process that has not been heard at all yet may take as long as after its fork."""
    fresh = running(state=STARTING, heard=80.0)
    excused = restart_policy.excused(fresh, NOW)
    assert restart_policy.deadline(excused, LIMITS) == NOW + LIMITS.start


@pytest.mark.parametrize("state", [STOPPING, KILLED, BACKOFF, DOWN])
def test_only_a_process_that_works_is_excused(state: State) -> None:
    """The time limits of an end and of a restart are not moved."""
    child = running(state=state)
    assert restart_policy.excused(child, NOW) == child


@pytest.mark.parametrize(
    ("child", "settled"),
    [
        (running(), True),
        (running(state=STARTING), False),
        (running(state=STARTING, failures=1), True),
        (running(state=STOPPING), False),
        (running(state=BACKOFF), True),
        (running(state=DOWN), True),
    ],
)
def test_a_child_is_settled_when_it_is_ready_or_failed(child: Child, *, settled: bool) -> None:
    """A reload waits for what it started, but not for what is broken."""
    assert restart_policy.settled(child) is settled
