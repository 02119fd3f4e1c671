"""Kubernetes Events and the node condition about GPUs."""

import itertools
from dataclasses import replace
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.fitness import fitness
from proto.messages import DeviceHealth, DeviceState, NodeState, XidCount
from proto.reasons import Reason, ReasonKind
from supervisor.cluster.node_condition import conditions
from supervisor.cluster.node_events import (
    BURST,
    HEALTHY,
    LEFT_OUT,
    REFILL,
    UNHEALTHY,
    XID,
    Bucket,
    NodeEvent,
    Outbox,
    decide,
)
from supervisor.cluster.node_view import DeviceView, NodeView, view
from supervisor.status.gpus import Facts, gpus
from supervisor.status.snapshot import Snapshot
from tests.unit.builders import gpu, gpu_uuid, inventory, mig_gpu, node_state

LOST, HOT = Reason(ReasonKind.GPU_LOST), Reason(ReasonKind.THERMAL)
X79, X48 = Reason(ReasonKind.XID, "79"), Reason(ReasonKind.XID, "48")


def of(*reasons: Reason, epoch: int = 1, **xids: int) -> NodeView:
    """Return a view of one GPU with these reasons; x79=2 counts two Xids 79."""
    counts = {int(name[1:]): count for name, count in xids.items()}
    found = tuple(sorted(reasons))
    return NodeView(epoch, {"GPU-a": DeviceView("GPU 0", "GPU-a", "0", found, found, counts)})


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, of(), []),
        (None, of(X79), [(XID, 79), (UNHEALTHY, None)]),
        (of(), of(), []),
        (of(), of(X79, x79=1), [(XID, 79), (UNHEALTHY, None)]),
        (of(), of(HOT), [(UNHEALTHY, None)]),
        (of(HOT), of(HOT, LOST), []),
        (of(HOT), of(HOT, X79), [(XID, 79)]),
        (of(X79), of(X79, X48), [(XID, 48)]),
        (of(X79, x79=1), of(X79, x79=3), [(XID, 79)]),
        (of(X79, x79=3), of(X79, x79=3), []),
        (of(X79, x79=3), of(X79, epoch=2, x79=1), []),
        (of(x31=1), of(x31=2), []),
        (of(X79, HOT), of(), [(HEALTHY, None)]),
        (NodeView(1, {}), of(HOT), [(UNHEALTHY, None)]),
        (of(HOT), NodeView(1, {}), []),
    ],
)
def test_changes_that_become_events(
    before: NodeView | None, after: NodeView, expected: list[tuple[str, int | None]]
) -> None:
    """A fatal Xid or a change between Healthy and Unhealthy is an Event; nothing else is."""
    events = decide(before, after, 5.0)
    assert [(event.reason, event.xid) for event in events] == expected
    assert all(event.initial == (before is None) for event in events)
    assert all(event.first == event.last == 5.0 for event in events)


def test_repetitions_are_counted() -> None:
    """An Xid that came twice since the last state is one Event with count 2."""
    (event,) = decide(of(X79, x79=1), of(X79, x79=3), 5.0)
    assert event.count == 2


def test_the_messages() -> None:
    """An Event's message names the GPU, the fault and what to do."""
    xid, unhealthy = decide(of(), of(X79), 5.0)
    assert xid.message.startswith("Xid 79 on GPU 0 (GPU-a): GPU has fallen off the bus. ")
    assert "NVIDIA's catalogue recommends: reboot." in xid.message
    assert unhealthy.message == (
        "GPU 0 (GPU-a) is Unhealthy: fatal Xid: 79, GPU has fallen off the bus. "
        "Drain the node and reboot it."
    )
    assert xid.message.endswith(" Drain the node and reboot it.")
    (healthy,) = decide(of(X79), of(), 5.0)
    assert healthy.message == (
        "GPU 0 (GPU-a) is Healthy again. "
        "It was Unhealthy: fatal Xid: 79, GPU has fallen off the bus."
    )
    assert (xid.warning, unhealthy.warning, healthy.warning) == (True, True, False)


def test_events_say_what_status_says() -> None:
    """For every reason and state, an Event has the words and the advice of the status."""
    for kind, state in itertools.product(
        ReasonKind, (DeviceState.UNHEALTHY, DeviceState.RECOVERING)
    ):
        reason = Reason(kind, "79" if kind is ReasonKind.XID else "")
        health = (DeviceHealth(gpu_uuid(0), (reason,), state),)
        node = msgspec.structs.replace(node_state({}), inventory=inventory(gpu(0)), health=health)
        known = fitness(node)
        shown = (gpus(Snapshot(node=node), Facts(known, {}, {}, {})) or ())[0].reasons[0]
        *fatal, unhealthy = decide(None, view(node, known), 5.0)
        assert unhealthy.message.endswith(f"is Unhealthy: {shown.text}. {shown.advice}")
        assert all(event.message.endswith(f" {shown.advice}") for event in fatal)


def test_maintenance_is_no_warning() -> None:
    """The Event for maintenance is Normal, not a Warning."""
    quiesced = of(Reason(ReasonKind.MAINTENANCE))
    (event,) = decide(of(), quiesced, 5.0)
    assert not event.warning
    assert [event.reason for event in decide(quiesced, of(epoch=2), 6.0)] == [HEALTHY]


def test_an_unknown_node_keeps_its_faults() -> None:
    """A driver hang neither hides known faults nor repeats their Events afterwards."""
    hung = of(X79, Reason(ReasonKind.DRIVER_HANG, "nvmlInit"))
    assert decide(of(X79), hung, 5.0) == ()
    assert decide(hung, of(X79, epoch=2), 6.0) == ()


def parted_node(*, whole_gpus: bool) -> NodeState:
    """Return a node with a whole GPU and a MIG GPU; its first of two instances has a fault."""
    whole, parted = gpu(0), mig_gpu(1, "1g.10gb", "1g.10gb")
    ill, well = (instance.uuid for instance in parted.instances)
    return NodeState(
        epoch=3,
        sequence=1,
        inventory=inventory(whole, parted),
        health=(
            DeviceHealth(whole.uuid),
            DeviceHealth(parted.uuid),
            DeviceHealth(ill, (X48,)),
            DeviceHealth(well),
        ),
        xids=(XidCount(whole.uuid, 79, 1), XidCount("", 79, 2)),
        whole_gpus=whole_gpus,
    )


@pytest.mark.parametrize("whole_gpus", [False, True])
def test_a_view_of_parted_gpus(whole_gpus: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A MIG instance's fault is shown once: at the instance, or at its whole GPU."""
    state = parted_node(whole_gpus=whole_gpus)
    seen = view(state, fitness(state))
    assert seen.epoch == 3
    told = {device.name: device.own for device in seen.devices.values() if device.own}
    assert told == {"GPU 1" if whole_gpus else "MIG instance 1:0": (X48,)}
    # An Xid without a GPU counts for each device.
    assert {device.name: device.xids for device in seen.devices.values()} == {
        "GPU 0": {79: 3},
        "GPU 1": {79: 2},
        "MIG instance 1:0": {79: 2},
        "MIG instance 1:1": {79: 2},
    }
    assert conditions(seen, "b")[0].message == f"boot b; Xid on {gpu_uuid(1)}: 48"


def test_an_instance_whose_gpu_has_the_same_fault_stays_unhealthy() -> None:
    """A fault that moves from an instance to its GPU causes no Healthy Event."""
    ill = DeviceView("MIG instance 0:0", "GPU-a", "0:0", (X48,), (X48,))
    covered = replace(ill, own=())
    before, after = (NodeView(1, {"MIG-a": device}) for device in (ill, covered))
    assert decide(before, after, 5.0) == ()


reasons = st.frozensets(st.sampled_from([LOST, HOT, X79, X48]))


@given(st.lists(reasons, max_size=8))
def test_one_event_per_incident(steps: list[frozenset[Reason]]) -> None:
    """Unhealthy and Healthy Events alternate, and the last Event is the GPU's health."""
    views = [of(), *(of(*step) for step in steps)]
    steps_told = itertools.chain.from_iterable(decide(*pair, 0.0) for pair in pairwise(views))
    told = [event.reason for event in steps_told if event.reason != XID]
    assert told == [UNHEALTHY, HEALTHY] * (len(told) // 2) + [UNHEALTHY] * (len(told) % 2)
    assert (len(told) % 2 == 1) == bool(views[-1].devices["GPU-a"].reasons)


def test_names() -> None:
    """Equal Events of the same boot have the same valid name; others have different names."""
    xid = NodeEvent("GPU-a", XID, "m", 0.0, 0.0, xid=79)
    others = [
        replace(xid, xid=48),
        replace(xid, device="GPU-b"),
        replace(xid, reason=UNHEALTHY),
    ]
    name = xid.name("node-1", "boot")
    assert name == replace(xid, message="other", last=9.0, count=3).name("node-1", "boot")
    assert name.startswith("node-1.")
    names = {name, xid.name("node-1", "next"), *(other.name("node-1", "boot") for other in others)}
    assert len(names) == 5
    long = xid.name(f"{'a' * 229}-{'b' * 23}", "boot")
    assert len(long) <= 253
    assert "-." not in long


def event(gpu: str = "GPU-a", at: float = 0.0) -> NodeEvent:
    """Return an Event of Xid 79 on a GPU, at a time in seconds."""
    return NodeEvent(gpu, XID, f"at {at}", at, at, xid=79)


def test_equal_events_are_merged() -> None:
    """Equal waiting Events become one: both counted, first time kept, newest message."""
    box = Outbox().put("n", event(at=1.0), 0.0).put("n", event(at=2.0), 0.0)
    (merged,) = box.waiting.values()
    assert (merged.first, merged.last, merged.count, merged.message) == (1.0, 2.0, 2, "at 2.0")


def test_an_event_that_repeats_while_it_is_sent_stays() -> None:
    """A repetition that comes during the request to the API server waits for the next one."""
    first = Outbox().put("n", event(at=1.0), 0.0)
    joined = first.put("n", event(at=2.0), 0.0)
    left = joined.without("n", first.waiting["n"])
    assert (left.waiting["n"].count, left.waiting["n"].message) == (1, "at 2.0")
    assert not left.without("n", left.waiting["n"]).waiting


def test_too_many_events_are_summed_up() -> None:
    """Events beyond the burst are counted, and sent later as one Event with their number."""
    box = Outbox()
    for number in range(int(BURST) + 5):
        box = box.put(f"n{number}", event(f"GPU-{number}"), 0.0)
    assert (len(box.waiting), box.left_out) == (BURST, 5)
    assert box.sum_up("node-1", "boot", 9.0, REFILL / 2) == box
    summed = box.sum_up("node-1", "boot", 9.0, REFILL)
    (last,) = [event for event in summed.waiting.values() if event.reason == LEFT_OUT]
    assert (last.count, summed.left_out) == (5, 0)
    assert last.message.startswith("5 Events about GPUs were not sent")


@given(st.lists(st.floats(0.0, 100.0), max_size=60))
def test_the_rate_limit(steps: list[float]) -> None:
    """The rate limit never allows more Events than the burst and one per refill."""
    bucket, now, allowed = Bucket(at=0.0), 0.0, 0
    for step in steps:
        now += step
        bucket, ok = bucket.take(now)
        allowed += ok
    assert allowed <= BURST + now / REFILL + 1e-6
    assert allowed >= min(len(steps), int(BURST))
