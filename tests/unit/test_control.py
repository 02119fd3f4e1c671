"""What the supervisor and a child say to each other."""

from collections.abc import Iterator

import pytest

from proto.channel import Channel, ClosedError
from proto.control import (
    Beat,
    Configure,
    ExitCode,
    Inventoried,
    NotReady,
    Order,
    Problem,
    ProblemKind,
    ProcessState,
    Ready,
    Register,
    Report,
    ServiceState,
    Stop,
    until_beat,
)
from proto.messages import FailedGpu, Link, LinkLevel
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
    Configure(plan=plan({"A": 2, "B": 1}, numa=0)),
    ServiceState(processes=(ProcessState("monitor", "running", 3),), planned=None, problem="x"),
    ServiceState(processes=(), planned=("nvidia.com/gpu",)),
    ServiceState(processes=(), planned=(), problems=(Problem(ProblemKind.MIG_EMPTY, "GPU 1"),) * 2),
    Ready(),
    Beat(),
    Inventoried(inventory=NODE),
    NotReady(reason="no driver"),
)


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return both ends of a channel."""
    pair = Channel.pair()
    yield pair
    for end in pair:
        end.close()


def fill(end: Channel) -> int:
    """Send until the other side would have to read; return how many messages went."""
    for count in range(1_000_000):
        if not end.send(Beat()):
            return count
    raise AssertionError("the channel never was full")


def test_messages_arrive_as_they_were_sent_and_in_order(ends: Ends) -> None:
    """Every order and report arrives equal, each by itself, in the order of sending."""
    here, there = ends
    assert [here.send(message) for message in MESSAGES] == [True] * len(MESSAGES)
    assert tuple(there.receive() for _ in MESSAGES) == MESSAGES
    assert there.receive() is None


def test_each_end_hears_the_other_only(ends: Ends) -> None:
    """Orders and reports do not meet."""
    here, there = ends
    here.send(Stop())
    there.send(Ready())
    assert (here.receive(), there.receive()) == (Ready(), Stop())
    assert (here.receive(), there.receive()) == (None, None)


def test_the_last_words_come_before_the_end(ends: Ends) -> None:
    """What was sent before the other side closed is still received, then comes the end."""
    here, there = ends
    here.send(NotReady(reason="no driver"))
    here.close()
    assert there.receive() == NotReady(reason="no driver")
    with pytest.raises(ClosedError):
        there.receive()
    with pytest.raises(ClosedError):
        there.receive()


def test_sending_to_a_closed_end_fails_without_an_error(ends: Ends) -> None:
    """A message to a side that is gone is False, no exception and no signal."""
    here, there = ends
    there.close()
    assert here.send(Beat()) is False


def test_an_end_of_our_own_that_is_closed(ends: Ends) -> None:
    """A closed end says so, sends nothing and hears its end."""
    here, _ = ends
    assert here.closed is False
    here.close()
    assert here.closed is True
    assert here.send(Beat()) is False
    with pytest.raises(ClosedError):
        here.receive()


def test_a_side_that_does_not_read_blocks_nobody(ends: Ends) -> None:
    """A full socket makes a message False at once; what it took arrives, and then more goes."""
    here, there = ends
    count = fill(here)
    assert count > 0
    assert here.send(Stop()) is False
    assert [there.receive() for _ in range(count)] == [Beat()] * count
    assert there.receive() is None
    assert here.send(Stop()) is True
    assert there.receive() == Stop()


def test_a_full_way_up_leaves_the_way_down_open(ends: Ends) -> None:
    """A child that fills its way up can still be told to stop."""
    here, there = ends
    fill(there)
    assert here.send(Stop()) is True
    assert there.receive() == Stop()


def test_the_inventory_of_a_large_node_fits(ends: Ends) -> None:
    """16 GPUs with 7 instances each and a link between any two arrive in one message."""
    here, there = ends
    gpus = [
        gpu(place, instances=tuple(instance(f"MIG-{place}-{n}" + "x" * 36, n, n) for n in range(7)))
        for place in range(16)
    ]
    links = tuple(
        Link(gpu_uuid(a), gpu_uuid(b), LinkLevel.NODE, 18) for a in range(16) for b in range(a)
    )
    report = Inventoried(inventory=inventory(*gpus, links=links))
    assert here.send(report) is True
    assert there.receive() == report


def test_a_message_that_can_never_be_sent_is_an_error(ends: Ends) -> None:
    """A message that no socket takes is our own mistake, and not taken for a side that is gone."""
    here, _ = ends
    with pytest.raises(OSError, match="Message too long"):
        here.send(NotReady(reason="x" * (64 << 20)))


def test_the_words_that_operators_search_for() -> None:
    """Problems of a node are written in these words, and these keep pods from their resource."""
    assert {str(kind): Problem(kind, "").fatal for kind in ProblemKind} == {
        "mig-not-uniform": True,
        "mig-empty": False,
        "list-too-long": True,
        "not-shared": False,
        "imex-missing": True,
    }


def test_exit_codes_that_scripts_go_by() -> None:
    """The exit codes keep their numbers."""
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "NOT_READY": 3,
        "AGAIN": 4,
    }


@pytest.mark.parametrize("now", [0.0, 0.25, 41.0, 41.999, 1e6 + 0.001])
def test_all_beat_at_whole_seconds(now: float) -> None:
    """Whenever a process asks, its next beat is at the next whole second of the common clock."""
    wait = until_beat(now)
    assert 0 < wait <= 1
    assert now + wait == pytest.approx(int(now) + 1)
