"""The channel between the supervisor and a child process."""

from collections.abc import Iterator

import pytest

from proto.channel import Channel, ClosedError, Sent
from proto.control import (
    ApplyNow,
    Beat,
    Configure,
    ExitCode,
    Inventoried,
    Left,
    Limit,
    NotReady,
    Order,
    ProcessState,
    Ready,
    Register,
    Report,
    ServiceState,
    Stop,
    Withhold,
    until_beat,
)
from proto.messages import FailedGpu, Link, LinkLevel
from proto.mps import MpsShare
from proto.problem import Problem, ProblemKind
from tests.unit.builders import gpu, gpu_uuid, instance, inventory, plan

Ends = tuple[Channel, Channel]

NODE = inventory(
    gpu(0, numa_node=1),
    gpu(1, mig_enabled=True, instances=(instance("MIG-1", 0, 7),)),
    failed=(FailedGpu(2, "lost"),),
    links=(Link(gpu_uuid(0), gpu_uuid(1), LinkLevel.PIX, 2),),
)
MESSAGES: tuple[Order | Report, ...] = (
    Stop(),
    Stop(withdraw=True),
    Register(),
    Limit(MpsShare(20000, 25)),
    ApplyNow(),
    Left(("GPU-1",)),
    Configure(plan=plan({"A": 2, "B": 1}, numa=0)),
    ServiceState(processes=(ProcessState("monitor", "running", 3),), planned=None, problem="x"),
    ServiceState(processes=(), planned=("nvidia.com/gpu",)),
    ServiceState(processes=(), planned=(), problems=(Problem(ProblemKind.MIG_EMPTY, "GPU 1"),) * 2),
    Ready(),
    Beat(),
    Inventoried(inventory=NODE),
    NotReady(reason="no driver"),
    Withhold({"A": "in use"}),
)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return both ends of a channel, and close them after the test."""
    pair = Channel.pair()
    yield pair
    for end in pair:
        end.close()


def fill(end: Channel) -> int:
    """Send until the socket is full; return the number of messages sent."""
    for count in range(1_000_000):
        if end.send(Beat()) is not Sent.TAKEN:
            return count
    raise AssertionError("the channel never became full")


def test_messages_arrive_as_they_were_sent_and_in_order(ends: Ends) -> None:
    """Every order and report arrives unchanged, one per receive, in the order of sending."""
    here, there = ends
    assert [here.send(message) for message in MESSAGES] == [Sent.TAKEN] * len(MESSAGES)
    assert tuple(there.receive() for _ in MESSAGES) == MESSAGES
    assert there.receive() is None


def test_each_end_receives_only_the_others_messages(ends: Ends) -> None:
    """An end of the channel never receives its own messages."""
    here, there = ends
    here.send(Stop())
    there.send(Ready())
    assert (here.receive(), there.receive()) == (Ready(), Stop())
    assert (here.receive(), there.receive()) == (None, None)


def test_the_last_message_is_received_before_the_end(ends: Ends) -> None:
    """A message sent before the other side closed is received; the next receive fails."""
    here, there = ends
    here.send(NotReady(reason="no driver"))
    here.close()
    assert there.receive() == NotReady(reason="no driver")
    with pytest.raises(ClosedError):
        there.receive()
    with pytest.raises(ClosedError):
        there.receive()


def test_sending_to_a_closed_end(ends: Ends) -> None:
    """Sending to a closed end tells that it has ended, without an exception or a signal."""
    here, there = ends
    there.close()
    assert here.send(Beat()) is Sent.ENDED


def test_an_end_of_our_own_that_is_closed(ends: Ends) -> None:
    """An end that we closed is `closed`, sends nothing, and cannot receive."""
    here, _ = ends
    assert here.closed is False
    here.close()
    assert here.closed is True
    assert here.send(Beat()) is Sent.ENDED
    with pytest.raises(ClosedError):
        here.receive()


def test_a_full_channel_does_not_block_the_sender(ends: Ends) -> None:
    """On a full channel, send returns FULL at once; after receiving, send works again."""
    here, there = ends
    count = fill(here)
    assert count > 0
    assert here.send(Stop()) is Sent.FULL
    assert [there.receive() for _ in range(count)] == [Beat()] * count
    assert there.receive() is None
    assert here.send(Stop()) is Sent.TAKEN
    assert there.receive() == Stop()


def test_a_child_that_fills_its_channel_can_be_stopped(ends: Ends) -> None:
    """The supervisor can still send Stop to a child whose reports fill the channel."""
    here, there = ends
    fill(there)
    assert here.send(Stop()) is Sent.TAKEN
    assert there.receive() == Stop()


def test_the_inventory_of_a_large_node_fits(ends: Ends) -> None:
    """The inventory of 16 GPUs with 7 MIG instances each and all links fits one message."""
    here, there = ends
    gpus = [
        gpu(place, instances=tuple(instance(f"MIG-{place}-{n}" + "x" * 36, n, n) for n in range(7)))
        for place in range(16)
    ]
    links = tuple(
        Link(gpu_uuid(a), gpu_uuid(b), LinkLevel.NODE, 18) for a in range(16) for b in range(a)
    )
    report = Inventoried(inventory=inventory(*gpus, links=links))
    assert here.send(report) is Sent.TAKEN
    assert there.receive() == report


def test_the_names_of_problems() -> None:
    """The names of a node's problems are fixed, and so is which are fatal for a resource."""
    assert {str(kind): Problem(kind, "").fatal for kind in ProblemKind} == {
        "mig-not-uniform": True,
        "mig-empty": False,
        "mig-unsupported": False,
        "list-too-long": True,
        "not-shared": False,
        "memory-unknown": False,
        "imex-missing": True,
        "mps-unsupported": False,
        "mps-root": False,
        "mps-threads": False,
        "slow-driver": False,
        "node-labels": False,
        "cdi-spec": False,
        "also-served-by-dra": False,
        "offered-by-dra": False,
        "numa-nodes": False,
    }


def test_the_numbers_of_exit_codes() -> None:
    """The exit codes have fixed numbers, because scripts use them."""
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "NOT_READY": 3,
        "AGAIN": 4,
        "NO_GPU": 5,
    }


@pytest.mark.parametrize("now", [0.0, 0.25, 41.0, 41.999, 1e6 + 0.001])
def test_heartbeats_come_at_whole_seconds(now: float) -> None:
    """The next heartbeat is due at the next whole second of the clock, at any time."""
    wait = until_beat(now)
    assert 0 < wait <= 1
    assert now + wait == pytest.approx(int(now) + 1)
