"""Whether a device is Healthy is decided in one place, and shown the same everywhere."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.control import ServiceState, Unknown
from proto.fitness import NOT_FOUND, SILENT, LastWord, fitness
from proto.messages import DeviceHealth, DeviceState, NodeState
from proto.reasons import Reason, ReasonKind
from supervisor.cluster import node_view
from supervisor.exporter.samples import samples
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About, status
from tests.unit.builders import gpu, inventory, mig_gpu, mig_uuid, node_state, plan
from workers import devices

LOST = Reason(ReasonKind.GPU_LOST)
XID = Reason(ReasonKind.XID, "79")
HOT = Reason(ReasonKind.THERMAL)
MAINTENANCE = Reason(ReasonKind.MAINTENANCE)

STALE_AFTER = 10.0
ABOUT = About("1", stale_after=STALE_AFTER)


def parted(
    own: DeviceHealth, *instances: DeviceHealth, whole_gpus: bool = True
) -> tuple[NodeState, str]:
    """Return a node with one GPU in MIG mode and this health, and the GPU's UUID."""
    found = mig_gpu(0, *["1g.10gb"] * len(instances))
    health = (
        msgspec.structs.replace(own, uuid=found.uuid),
        *(
            msgspec.structs.replace(device, uuid=mig_uuid(0, place))
            for place, device in enumerate(instances)
        ),
    )
    state = node_state({})
    fields = {"inventory": inventory(found), "health": health, "whole_gpus": whole_gpus}
    return msgspec.structs.replace(state, **fields), found.uuid


def ill(
    *reasons: Reason, state: DeviceState = DeviceState.UNHEALTHY, **fields: Any
) -> DeviceHealth:
    """Return the health of a device with these reasons."""
    return DeviceHealth("", tuple(sorted(reasons)), state, **fields)


WELL = DeviceHealth("")


def test_a_device_has_the_monitors_reasons() -> None:
    """A device has only its own reasons from the monitor; a Healthy device has none."""
    found = fitness(node_state({"A": (), "B": (LOST,)}))
    assert (found.reasons("A"), found.reasons("B")) == ((), (LOST,))
    assert (found.state("A"), found.blind) == (DeviceState.HEALTHY, None)


def test_a_device_missing_from_the_node_state_is_unhealthy() -> None:
    """A device that the node's state lacks is Unhealthy: not-found, state unknown."""
    found = fitness(node_state({"A": ()}))
    assert (found.reasons("B"), found.state("B")) == ((NOT_FOUND,), None)


def test_without_a_node_state_devices_are_unhealthy() -> None:
    """Before the monitor's first message, devices are Unhealthy: monitor-silent."""
    assert fitness(None).reasons("A") == (SILENT,)


@pytest.mark.parametrize(
    ("unknown", "silent", "reason"),
    [
        (None, True, SILENT),
        (MAINTENANCE, False, MAINTENANCE),
        (MAINTENANCE, True, MAINTENANCE),
    ],
)
def test_an_old_or_denied_node_state(
    unknown: Reason | None, reason: Reason, *, silent: bool
) -> None:
    """With an old or denied node state, devices keep their reasons and get one more."""
    order = Unknown(unknown, epoch=1) if unknown else None
    found = fitness(node_state({"A": (), "B": (XID,)}), unknown=order, silent=silent)
    assert (found.reasons("A"), found.reasons("B")) == ((reason,), (XID, reason))
    assert found.reasons("C") == (reason,)
    assert (found.state("A"), found.state("B")) == (None, None)


def test_a_reason_is_not_repeated() -> None:
    """A reason that both monitor and supervisor give is listed once."""
    order = Unknown(XID, epoch=1)
    assert fitness(node_state({"A": (XID,)}), unknown=order).reasons("A") == (XID,)


@pytest.mark.parametrize(
    ("own", "instances", "reasons", "state"),
    [
        (WELL, (WELL, WELL), (), DeviceState.HEALTHY),
        (WELL, (WELL, ill(XID)), (XID,), DeviceState.UNHEALTHY),
        (ill(HOT), (ill(HOT), ill(HOT)), (HOT,), DeviceState.UNHEALTHY),
        (ill(LOST, state=DeviceState.LOST), (ill(XID),), (LOST, XID), DeviceState.LOST),
        (
            WELL,
            (ill(XID, state=DeviceState.RECOVERING), ill(HOT)),
            (HOT, XID),
            DeviceState.UNHEALTHY,
        ),
        (WELL, (ill(state=DeviceState.SUSPECT),), (), DeviceState.SUSPECT),
    ],
)
def test_a_whole_gpu_has_the_faults_of_its_mig_instances(
    own: DeviceHealth,
    instances: tuple[DeviceHealth, ...],
    reasons: tuple[Reason, ...],
    state: DeviceState,
) -> None:
    """A GPU that is allocated whole has the reasons and the worst state of its instances."""
    node, uuid = parted(own, *instances)
    found = fitness(node)
    assert (found.reasons(uuid), found.state(uuid)) == (reasons, state)


def test_a_whole_gpu_has_the_time_of_its_worst_instance() -> None:
    """A whole GPU has its worst instance's `since`, but its own transitions and action."""
    own = DeviceHealth("", since=5.0, transitions=3, recovery_action=1)
    node, uuid = parted(own, ill(XID, since=7))
    shown = fitness(node).devices[uuid]
    assert (shown.since, shown.transitions, shown.recovery_action) == (7.0, 3, 1)


def test_faults_of_allocated_mig_instances_stay_their_own() -> None:
    """With MIG strategy single or mixed, an instance's fault affects only that instance."""
    node, uuid = parted(WELL, WELL, ill(XID), whole_gpus=False)
    found = fitness(node)
    assert [found.reasons(device) for device in (uuid, mig_uuid(0, 0), mig_uuid(0, 1))] == [
        (),
        (),
        (XID,),
    ]


def test_a_node_state_counts_until_it_is_old_or_denied() -> None:
    """A node state counts until it is too old, or denied; a new monitor ends the denial."""
    first, later = node_state({"A": ()}, epoch=1), node_state({"A": ()}, epoch=1, sequence=2)
    word = LastWord(0.0).after(first, 1.0)
    assert word.fitness(11.0, STALE_AFTER).reasons("A") == ()
    assert word.fitness(11.1, STALE_AFTER).reasons("A") == (SILENT,)
    denied = word.denied(Unknown(MAINTENANCE, epoch=1))
    assert denied.after(later, 2.0).fitness(2.0, STALE_AFTER).reasons("A") == (MAINTENANCE,)
    other = node_state({"A": ()}, epoch=2)
    assert denied.after(other, 2.0).fitness(2.0, STALE_AFTER).reasons("A") == ()


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_order_counts_for_the_monitors_that_it_speaks_of(epoch: int) -> None:
    """Whether the order or the state of a monitor is read first, devices end up the same."""
    order = Unknown(MAINTENANCE, epoch=2)
    state = node_state({"A": ()}, epoch=epoch)
    reasons = (MAINTENANCE,) if epoch <= order.epoch else ()
    for word in (
        LastWord(0.0).denied(order).after(state, 1.0),
        LastWord(0.0).after(state, 1.0).denied(order),
    ):
        assert word.fitness(1.0, STALE_AFTER).reasons("A") == reasons
    shown = Snapshot(ServiceState(processes=(), planned=(), unknown=order), 1.0, state, node_at=1.0)
    assert shown.fitness(1.0, STALE_AFTER).reasons("A") == reasons


REASONS = st.frozensets(st.sampled_from([LOST, XID, HOT, Reason(ReasonKind.XID, "48")]), max_size=2)


@st.composite
def nodes(draw: st.DrawFn) -> NodeState:
    """Draw a node of whole and MIG GPUs in any health; one device's health may be missing."""
    gpus, health = [], []
    for place in range(draw(st.integers(1, 3))):
        count = draw(st.integers(0, 2))
        found = mig_gpu(place, *["1g.10gb"] * count) if count else gpu(place)
        gpus.append(found)
        own = draw(REASONS)
        for uuid in (found.uuid, *(instance.uuid for instance in found.instances)):
            # Like the monitor: an instance has its GPU's reasons too.
            reasons = own if uuid == found.uuid else own | draw(REASONS)
            ailing = st.sampled_from([DeviceState.UNHEALTHY, DeviceState.RECOVERING])
            state = draw(ailing) if reasons else DeviceState.HEALTHY
            health.append(DeviceHealth(uuid, tuple(sorted(reasons)), state))
    if draw(st.booleans()) and len(health) > 1:
        health.pop(draw(st.integers(0, len(health) - 1)))
    fields = {
        "inventory": inventory(*gpus),
        "health": tuple(health),
        "whole_gpus": draw(st.booleans()),
    }
    return msgspec.structs.replace(node_state({}), **fields)


@given(nodes(), st.sampled_from([None, MAINTENANCE]), st.sampled_from([5.0, 10.0, 10.1]))
def test_kubelet_metrics_status_and_events_agree(
    state: NodeState, unknown: Reason | None, age: float
) -> None:
    """In any node state, the kubelet's list, metrics, status and Events show the same."""
    now = 100.0
    order = Unknown(unknown, epoch=1) if unknown else None
    service = ServiceState(processes=(), planned=("nvidia.com/gpu",), unknown=order)
    snapshot = Snapshot(service, now, state, {}, (), node_at=now - age)
    word = LastWord(now - age, state, order)
    found = word.fitness(now, STALE_AFTER)
    uuids = [u for g in state.inventory.gpus for u in (g.uuid, *(i.uuid for i in g.instances))]

    view = devices.view(plan(dict.fromkeys(uuids, 1)), {}, state, found)
    kubelet = {uuid: {r.kind for r in view.unhealthy.get(uuid, ())} for uuid in uuids}

    scraped = list(samples(snapshot, ABOUT, {}, now, 0.0))
    metrics: dict[str, set[str]] = {uuid: set() for uuid in uuids}
    for sample in scraped:
        if sample.name == "device_unhealthy_reason":
            metrics[sample.labels[0]].add(sample.labels[1])
    healthy = {s.labels[0]: bool(s.value) for s in scraped if s.name == "device_healthy"}

    shown = status(snapshot, ABOUT, now, 0.0).gpus or ()
    told = [device for gpu in shown for device in (gpu, *gpu.instances)]

    events = node_view.view(state, found).devices

    assert kubelet == metrics == {d.uuid: {r.kind for r in d.reasons} for d in told}
    assert kubelet == {uuid: {r.kind for r in d.reasons} for uuid, d in events.items()}
    assert healthy == {device.uuid: device.healthy for device in told}
    assert healthy == {uuid: not reasons for uuid, reasons in kubelet.items()}
    # No reason is missing: it is the device's own, or its GPU's.
    for device in events.values():
        assert {*device.own, *events[device.gpu].reasons} >= {*device.reasons}
