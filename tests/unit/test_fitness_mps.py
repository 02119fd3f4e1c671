"""Tests of what the state of an MPS daemon means for the device that it shares."""

import pytest

from proto.fitness import NO_WORD, OTHER_LIMITS, LastMpsWord, fitness
from proto.messages import DeviceHealth, DeviceState, Inventory, MpsState, NodeState
from proto.mps import MpsDaemon, MpsShare, Phase
from proto.reasons import Reason, ReasonKind

SHARE = MpsShare(10240, 25)
OTHER = MpsShare(20480, 50)
WANTED = {"GPU-a": SHARE}


def word(*daemons: MpsDaemon) -> LastMpsWord:
    """Return the word of these daemons, which arrived at 5 s."""
    return LastMpsWord(0.0).after(MpsState(epoch=1, sequence=1, daemons=daemons), 5.0)


@pytest.mark.parametrize(
    ("daemons", "wanted", "now", "detail"),
    [
        ([MpsDaemon("GPU-a", Phase.READY, share=SHARE)], WANTED, 6.0, None),
        ([MpsDaemon("GPU-a", Phase.READY, share=SHARE)], WANTED, 15.1, NO_WORD),
        ([MpsDaemon("GPU-a", Phase.READY, share=OTHER)], WANTED, 6.0, OTHER_LIMITS),
        (
            [MpsDaemon("GPU-a", Phase.READY, share=MpsShare(10240, 25, root="/run/mps"))],
            {"GPU-a": MpsShare(10240, 25, root="/mps")},
            6.0,
            'its MPS daemon is in "/run/mps", but --mps-root is "/mps" here',
        ),
        ([MpsDaemon("GPU-b", Phase.READY, share=SHARE)], {**WANTED, "GPU-b": SHARE}, 6.0, NO_WORD),
        ([MpsDaemon("GPU-a", Phase.FAULT, "PID 7", share=SHARE)], WANTED, 6.0, "fault: PID 7"),
        ([MpsDaemon("GPU-a", Phase.STARTING, share=SHARE)], WANTED, 6.0, "starting"),
        ([], WANTED, 6.0, NO_WORD),
        ([MpsDaemon("GPU-a", Phase.DRAINING, "2 clients")], {}, 6.0, "2 clients"),
        ([MpsDaemon("GPU-a", Phase.READY)], {}, 6.0, "its MPS daemon still runs"),
        ([MpsDaemon("GPU-a", Phase.READY)], {}, 15.1, None),
    ],
)
def test_only_a_ready_daemon_with_the_right_limits_lets_its_device_be_allocated(
    daemons: list[MpsDaemon], wanted: dict[str, MpsShare], now: float, detail: str | None
) -> None:
    """Everything else holds the device back, and says why."""
    found = word(*daemons).reasons(wanted, now, 10.0)
    assert found.get("GPU-a") == (None if detail is None else Reason(ReasonKind.MPS, detail))


def test_before_the_first_word_no_device_of_mps_is_allocated() -> None:
    """A daemon that nobody has heard of may have any limits."""
    assert LastMpsWord(0.0).reasons(WANTED, 0.1, 10.0) == {"GPU-a": Reason(ReasonKind.MPS, NO_WORD)}


def test_a_tree_that_was_started_again_counts_from_the_start() -> None:
    """Its epoch is lower than the one before, and it counts all the same."""
    later = MpsState(epoch=9, sequence=9, daemons=(MpsDaemon("GPU-a", Phase.FAULT),))
    anew = MpsState(epoch=1, sequence=1, daemons=(MpsDaemon("GPU-a", Phase.READY, share=SHARE),))
    last = LastMpsWord(0.0).after(later, 1.0).after(anew, 2.0)
    assert last.reasons(WANTED, 3.0, 10.0) == {}


def test_a_device_without_its_daemon_is_unhealthy_whatever_the_monitor_says() -> None:
    """What the monitor knows is kept where it is worse."""
    state = NodeState(
        epoch=1,
        sequence=1,
        inventory=Inventory("", ()),
        health=(DeviceHealth("GPU-a"), DeviceHealth("GPU-b", state=DeviceState.LOST)),
    )
    known = fitness(state, mps=word().reasons({**WANTED, "GPU-b": SHARE}, 6.0, 10.0))
    assert known.state("GPU-a") is DeviceState.UNHEALTHY
    assert known.state("GPU-b") is DeviceState.LOST
    assert known.reasons("GPU-a") == (Reason(ReasonKind.MPS, NO_WORD),)
