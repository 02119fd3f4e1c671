"""Orders that a child process cannot get."""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from proto import channel
from proto.channel import Channel, Sent
from proto.control import (
    Configure,
    ExitCode,
    Limit,
    Order,
    Register,
    ServiceState,
    Stop,
    Unknown,
    Withhold,
)
from proto.mps import MpsShare
from proto.reasons import Reason, ReasonKind
from supervisor.child import Process, Spec
from supervisor.children import Children
from supervisor.restart_policy import Limits, State
from tests.unit.builders import plan

STATE = ServiceState(processes=(), planned=())
WORKER = Spec("worker", "workers.main", None, (Register, Unknown, Configure))
EXPORTER = Spec("exporter", "supervisor.exporter.main", None, (ServiceState,))
MONITOR = Spec("monitor", "health.main", None, (Withhold,), essential=True)
KEEPER = Spec(
    "keeper", "supervisor.mps.keeper", None, (Limit,), change=Limit(MpsShare(1000)), lingers=True
)
LONG = Configure(plan({f"GPU-{place}": 1 for place in range(2000)}))


class Child(Process):
    """A process that exists only as a channel, and counts the signals to it."""

    def __init__(self) -> None:
        self.channel, self.end = Channel.pair()
        self.kills = 0
        self.code: int = ExitCode.DONE

    @property
    def pid(self) -> int:
        """Return any pid."""
        return 1

    def kill(self) -> None:
        """Count a SIGKILL."""
        self.kills += 1

    def reap(self) -> int:
        """Close the channel, and return the exit code."""
        self.channel.close()
        self.end.close()
        return self.code

    def fill(self) -> None:
        """Fill the channel, as a process that does not read lets it fill."""
        while self.channel.send(STATE) is Sent.TAKEN:
            pass


class World:
    """A worker and an exporter that run."""

    def __init__(self) -> None:
        self.forked: dict[str, Child] = {}
        self.children = Children(self._fork, Limits(), lambda: None)
        for spec in (WORKER, EXPORTER):
            self.children.want(spec)
            self.children.start(spec.name)
            self.children.heard(spec.name, ready=True)

    def _fork(self, spec: Spec, epoch: int) -> Process:
        del epoch
        self.forked[spec.name] = Child()
        return self.forked[spec.name]

    def states(self) -> tuple[State, State]:
        """Return the states of the worker and the exporter."""
        return self.children.state("worker"), self.children.state("exporter")


@pytest.fixture
def world() -> Iterator[World]:
    """Return a world, and close its channels after the test."""
    made = World()
    yield made
    for child in made.forked.values():
        child.channel.close()
        child.end.close()


def test_a_long_plan_arrives(world: World) -> None:
    """A plan longer than a socket's buffer reaches the worker."""
    world.children.tell(LONG)
    assert world.forked["worker"].end.receive() == LONG
    assert world.states() == (State.RUNNING, State.RUNNING)


@pytest.mark.parametrize(
    "order", [LONG, Register(), Unknown(Reason(ReasonKind.MAINTENANCE), 1)], ids=["plan", "R", "U"]
)
def test_a_worker_that_misses_an_order_is_restarted(world: World, order: Order) -> None:
    """A worker is killed, once, when its channel has no room for an order."""
    world.forked["worker"].fill()
    world.children.tell(order)
    world.children.tell(order)
    assert world.states() == (State.KILLED, State.RUNNING)
    assert world.forked["worker"].kills == 1


def test_an_exporter_may_miss_a_state(world: World) -> None:
    """A state that the exporter misses is sent again a second later, so the exporter stays."""
    world.forked["exporter"].fill()
    world.children.tell(STATE)
    assert world.states() == (State.RUNNING, State.RUNNING)


def test_a_monitor_may_miss_what_is_occupied(world: World) -> None:
    """A monitor that is too busy to be told stays: it is told again a few seconds later."""
    world.children.want(MONITOR)
    world.children.start("monitor")
    world.children.heard("monitor", ready=True)
    world.children.tell(Withhold({"A": "in use"}))
    assert world.forked["monitor"].end.receive() == Withhold({"A": "in use"})
    assert world.forked["exporter"].end.receive() is None
    world.forked["monitor"].fill()
    world.children.tell(Withhold({}))
    assert world.children.state("monitor") is State.RUNNING


def test_what_no_channel_takes_restarts_the_receiver(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message over the limit ends neither the caller nor a process that does not receive it."""
    monkeypatch.setattr(channel, "MESSAGE_LIMIT", 1000)
    world.children.tell(LONG)
    assert world.states() == (State.KILLED, State.RUNNING)
    world.children.tell(ServiceState(processes=(), planned=(), problem="x" * 2000))
    assert world.states() == (State.KILLED, State.KILLED)


def test_a_worker_that_has_just_ended_is_not_killed(world: World) -> None:
    """The end of a process is noticed by its exit, not by an order that it cannot get."""
    world.forked["worker"].end.close()
    world.children.tell(LONG)
    assert world.states() == (State.RUNNING, State.RUNNING)
    assert world.forked["worker"].kills == 0


def run(world: World, spec: Spec) -> Channel:
    """Let a child of *spec* run; return its end of the channel."""
    world.children.follow(spec)
    world.children.start(spec.name)
    world.children.heard(spec.name, ready=True)
    return world.forked[spec.name].end


def test_a_child_gets_only_what_changed(world: World) -> None:
    """A running child is sent the order of its change, and nothing if nothing changed for it."""
    end = run(world, KEEPER)
    world.children.follow(replace(KEEPER, settings="other"))
    assert end.receive() is None
    changed = Limit(MpsShare(2000))
    world.children.follow(replace(KEEPER, change=changed))
    assert end.receive() == changed


def test_a_child_that_cannot_take_a_change_is_replaced(world: World) -> None:
    """A change of what only a new process can take stops the process; its successor is wanted."""
    end = run(world, KEEPER)
    world.children.follow(replace(KEEPER, fixed="other root"))
    assert end.receive() == Stop()
    assert world.children.state("keeper") is State.STOPPING
    world.children.reap("keeper")
    assert world.children.state("keeper") is State.BACKOFF


def test_a_worker_withdraws_within_seconds(world: World) -> None:
    """A worker gets a time limit to send its empty list."""
    world.children.withdraw("worker")
    assert world.forked["worker"].end.receive() == Stop(withdraw=True)
    assert world.states()[0] is State.STOPPING


def test_a_keeper_withdraws_for_as_long_as_it_needs(world: World) -> None:
    """A keeper is told once, has no time limit, and is not restarted after it is done."""
    end = run(world, KEEPER)
    world.children.withdraw("keeper")
    world.children.withdraw("keeper")
    assert (end.receive(), end.receive()) == (Stop(withdraw=True), None)
    assert world.children.state("keeper") is State.RUNNING
    world.children.reap("keeper")
    assert world.children.state("keeper") is State.DOWN


@pytest.mark.parametrize("left", [True, False], ids=["of an earlier run", "after a crash"])
def test_a_keeper_that_does_not_run_ends_its_daemon_too(world: World, *, left: bool) -> None:
    """At the end of the service it is started for that, and not again afterwards."""
    if left:
        world.children.dismiss([KEEPER])
    else:
        world.children.want(KEEPER)
        world.children.start("keeper")
        world.forked["keeper"].code = ExitCode.FAILED
        world.children.reap("keeper")
    assert world.children.state("keeper") is State.BACKOFF
    world.children.unwant_all()
    end = world.forked["keeper"].end
    orders = [end.receive(), end.receive()]
    assert orders == ([Stop(withdraw=True), Stop()] if left else [Stop(), None])
    world.children.unwant_all()
    assert end.receive() is None
    world.children.reap("keeper")
    assert world.children.state("keeper") is State.DOWN


def test_a_new_keeper_learns_that_it_withdraws(world: World) -> None:
    """A keeper that was killed meanwhile is restarted, and told the same again."""
    run(world, KEEPER)
    world.children.withdraw("keeper")
    world.forked["keeper"].code = -9
    world.children.reap("keeper")
    world.children.start("keeper")
    assert world.forked["keeper"].end.receive() == Stop(withdraw=True)


def test_a_keeper_that_is_wanted_again_stays(world: World) -> None:
    """A keeper whose device is shared again before it has ended is told so."""
    end = run(world, KEEPER)
    world.children.withdraw("keeper")
    assert end.receive() == Stop(withdraw=True)
    world.children.follow(KEEPER)
    assert end.receive() == KEEPER.change
