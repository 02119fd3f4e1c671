"""The restart policy over a child's whole life, with random and with typical events."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor import restart_policy
from supervisor.restart_policy import ALIVE, Child, Limits, State

LIMITS = Limits()
LOOP_EVENTS = ("time", "ready", "beat", "exit", "unwant", "want", "kill")
"""All events: time passes, the child reports or exits, its resource goes or comes."""


@dataclass
class World:
    """A child and its process, under a loop that starts and kills it at its deadlines."""

    now: float = 0.0
    child: Child = field(default_factory=lambda: restart_policy.new(0.0))
    processes: int = 0
    starts: int = 0
    asked: bool = False
    """Whether the process was asked to stop."""
    stable: bool = False
    """Whether the process has run for a minute."""

    def step(self, event: str, seconds: float = 0.0) -> State:
        """Apply *event* after *seconds*, if it is possible; return the child's state."""
        self.now += seconds
        getattr(self, f"_{event}")()
        return self.child.state

    def _time(self) -> None:
        due = restart_policy.deadline(self.child, LIMITS)
        if due is None or self.now < due:
            return
        if self.child.state is State.BACKOFF:
            self._start()
        elif self.child.state is State.KILLED:
            self.child = restart_policy.endured(self.child, self.now)
        else:
            self._kill()

    def _start(self) -> None:
        self.child = restart_policy.started(self.child, self.now)
        self.processes += 1
        self.starts += 1
        self.asked = self.stable = False

    def _ready(self) -> None:
        if self.processes:
            self.child = restart_policy.heard(self.child, self.now, ready=True)

    def _beat(self) -> None:
        if self.processes:
            self.child = restart_policy.heard(self.child, self.now)

    def _exit(self) -> None:
        if self.processes:
            self._note_stable()
            self.processes -= 1
            self.child = restart_policy.exited(self.child, self.now, LIMITS)

    def _unwant(self) -> None:
        self.asked = True
        self.child = restart_policy.unwanted(self.child, self.now)

    def _want(self) -> None:
        self.child = restart_policy.wanted(self.child, self.now)

    def _kill(self) -> None:
        if self.processes:
            self._note_stable()
            self.child = restart_policy.killed(self.child, self.now, LIMITS)

    def _note_stable(self) -> None:
        if self.child.state is State.RUNNING:
            self.stable = self.now - self.child.since >= LIMITS.stable


def check(world: World, before: Child) -> None:
    """Check what must be true after every event."""
    child = world.child
    assert world.processes == (1 if child.state in ALIVE else 0)
    assert child.starts == world.starts
    assert child.starts >= before.starts
    assert (restart_policy.deadline(child, LIMITS) is None) == (child.state is State.DOWN)
    assert child.wanted or child.state is not State.BACKOFF
    assert not child.wanted or child.state is not State.DOWN
    if child.failures < before.failures:
        assert world.stable or world.asked


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(LOOP_EVENTS), st.sampled_from((0.0, 0.05, 1.0, 20.0, 70.0, 130.0))
        ),
        max_size=60,
    )
)
def test_a_child_after_any_events(events: list[tuple[str, float]]) -> None:
    """A child has at most one process, restarts only if wanted, and only down has no deadline."""
    world = World()
    for event, seconds in events:
        before = world.child
        world.step(event, seconds)
        check(world, before)


def test_a_child_that_hangs_is_killed_and_comes_back() -> None:
    """A child without heartbeat is killed at its deadline, and restarted when it has ended."""
    world = World()
    assert world.step("time") is State.STARTING
    assert world.step("ready", 1.0) is State.RUNNING
    assert world.step("time", 14.9) is State.RUNNING
    assert world.step("time", 0.2) is State.KILLED
    assert world.step("exit", 0.1) is State.BACKOFF
    assert world.step("time") is State.STARTING
    assert world.child.starts == 2


def test_the_pauses_of_a_crashing_child_grow() -> None:
    """The pauses between starts of a child that always fails grow up to 30 s."""
    world = World()
    gaps = []
    for _ in range(12):
        world.step("time")
        world.step("exit")
        due = restart_policy.deadline(world.child, LIMITS)
        assert due is not None
        gaps.append(round(due - world.now, 3))
        world.now = due
    assert gaps == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]


def test_a_stopping_worker_whose_resource_returns_is_restarted() -> None:
    """A worker whose resource returns while it stops is restarted as soon as it has ended."""
    world = World()
    for event in ("time", "ready", "unwant", "want", "exit", "time"):
        world.step(event)
    assert world.child == Child(State.STARTING, since=0.0, heard=0.0, failures=0, starts=2)


def test_a_child_that_ignores_the_order_to_stop_is_killed() -> None:
    """A child with heartbeats that does not end in time after the order to stop is killed."""
    world = World()
    assert world.step("time") is State.STARTING
    assert world.step("ready") is State.RUNNING
    assert world.step("unwant") is State.STOPPING
    assert world.step("beat", 2.9) is State.STOPPING
    assert world.step("time") is State.STOPPING
    assert world.step("time", 0.2) is State.KILLED
    assert world.step("exit") is State.DOWN


def test_a_hang_after_stable_running_is_a_first_failure() -> None:
    """A hang after a minute of running counts as the first failure."""
    worked = Child(State.RUNNING, since=0.0, heard=1000.0, failures=5, starts=6)
    killed = restart_policy.killed(worked, 1000.0, LIMITS)

    assert restart_policy.exited(killed, 1000.1, LIMITS).failures == 1


def test_an_urgent_child_has_shorter_pauses() -> None:
    """The pauses of an urgent child end at its urgent delay, not at 30 s."""
    limits = Limits(urgent_delay=1.0).for_urgent()
    assert [restart_policy.backoff(n, limits) for n in (1, 2, 5, 6, 20)] == [
        0.0,
        0.1,
        0.8,
        1.0,
        1.0,
    ]
    assert Limits(last_delay=0.5, urgent_delay=1.0).for_urgent().last_delay == 0.5
