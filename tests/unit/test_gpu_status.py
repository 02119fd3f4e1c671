"""What the status says of GPUs, MIG instances and those who hold them."""

import pytest
from msgspec.structs import replace

from health.advice import ACTIONS, ADVICE
from health.xid_catalogue import Action
from proto.control import ServiceState
from proto.messages import DeviceHealth, DeviceState, Gpu, NodeState
from proto.reasons import Reason, ReasonKind
from supervisor.status import report
from supervisor.status.allocations import Allocation
from supervisor.status.gpus import FAULTS, WAIT, gpus, strays
from supervisor.status.snapshot import Snapshot
from tests.unit.builders import gpu, inventory, mig_gpu, mig_uuid, node_state, worker_state

NOW, STALE_AFTER = 100.0, 10.0
SHARED, SLICE = "nvidia.com/sharedgpu", "nvidia.com/mig-1g.10gb"
FIRST, SECOND = mig_uuid(1, 0), mig_uuid(1, 1)
XID = Reason(ReasonKind.XID, "48")


def node(*found: Gpu, health: tuple[DeviceHealth, ...] | None = None) -> NodeState:
    """Return a node of these GPUs, which are well where *health* is not given."""
    uuids = [uuid for one in found for uuid in (one.uuid, *(i.uuid for i in one.instances))]
    well = tuple(map(DeviceHealth, uuids))
    return replace(node_state({}), inventory=inventory(*found), health=health or well)


def snapshot(
    state: NodeState,
    replicas: dict[str, dict[str, int]] | None = None,
    allocations: tuple[Allocation, ...] | None = (),
) -> Snapshot:
    """Return what is known of a node with resources of these replicas by UUID."""
    replicas = replicas or {}
    workers = {name: (worker_state(name, replicas=own), NOW) for name, own in replicas.items()}
    service = ServiceState(processes=(), planned=tuple(replicas))
    return Snapshot(service, NOW, state, workers, allocations, node_at=NOW)


def shown(known: Snapshot) -> tuple[report.GpuStatus, ...] | None:
    """Return the GPUs as they are shown now."""
    return gpus(known, known.fitness(NOW, STALE_AFTER))


def only(known: Snapshot) -> report.GpuStatus:
    """Return the node's only GPU."""
    (found,) = shown(known) or ()
    return found


def test_a_healthy_gpu() -> None:
    """A GPU shows what it is, and that nothing is wrong with it."""
    known = DeviceHealth("A", since=50.0, transitions=2, recovery_action=0)
    state = node(gpu(3, uuid="A", numa_node=1), health=(known,))
    assert only(snapshot(state)) == report.GpuStatus(
        uuid="A",
        state=DeviceState.HEALTHY,
        healthy=True,
        reasons=(),
        since=50.0,
        transitions=2,
        index=3,
        model="NVIDIA H100 80GB HBM3",
        pci_bus_id="0000:04:00.0",
        numa_node=1,
        memory_mib=81559,
        recovery_action=0,
        monitoring=report.Monitoring.EVENTS,
        mig=False,
        instances=(),
        resources=(),
        holders=(),
    )


def test_what_the_driver_does_not_tell() -> None:
    """What is not known of a GPU is null."""
    found = gpu(0, uuid="A", memory_mib=None, events=False)
    seen = only(snapshot(node(found), allocations=None))
    assert (seen.memory_mib, seen.numa_node, seen.recovery_action) == (None, None, None)
    assert (seen.since, seen.holders) == (None, None)
    assert seen.monitoring is report.Monitoring.POLLING
    assert only(Snapshot(None, 0.0, node(found), node_at=NOW)).resources is None
    assert shown(Snapshot()) is None


@pytest.mark.parametrize("kind", ReasonKind)
def test_every_reason_is_told_with_advice(kind: ReasonKind) -> None:
    """Each kind of reason has words and advice of its own, and its detail is told."""
    reason = Reason(kind, "the detail")
    state = node(gpu(0), health=(DeviceHealth(gpu(0).uuid, (reason,), DeviceState.UNHEALTHY),))
    found = only(snapshot(state))
    words, advice = ADVICE[kind]
    assert not found.healthy
    assert found.reasons == (
        report.ReasonStatus(kind, "the detail", f"{words}: the detail", advice),
    )
    assert words
    assert advice.endswith(".")
    assert [entry for entry in ADVICE.values() if entry.words == words] == [ADVICE[kind]]


@pytest.mark.parametrize(
    ("xid", "text", "advice"),
    [
        ("79", "fatal Xid: 79, GPU has fallen off the bus", "Drain the node and reboot it."),
        (
            "48",
            "fatal Xid: 48, double-bit ECC error",
            "Stop the pods that use the GPU, then reset the GPU.",
        ),
        ("31", "fatal Xid: 31, GPU memory page fault", ACTIONS[Action.RESTART_APP]),
        ("555", "fatal Xid: 555, not in the catalogue", ACTIONS[Action.CONTACT_SUPPORT]),
    ],
)
def test_an_xid_is_told_by_name_with_its_own_advice(xid: str, text: str, advice: str) -> None:
    """A fatal Xid bears the catalogue's name and what the catalogue says to do."""
    state = node(gpu(0), health=(DeviceHealth(gpu(0).uuid, (Reason(ReasonKind.XID, xid),)),))
    assert only(snapshot(state)).reasons == (
        report.ReasonStatus(ReasonKind.XID, xid, text, advice),
    )


def test_a_recovering_gpu_needs_time() -> None:
    """What is proven to be gone needs only time; what a look still shows needs the same as ever."""
    reasons = (XID, Reason(ReasonKind.THERMAL))
    state = node(gpu(0), health=(DeviceHealth(gpu(0).uuid, reasons, DeviceState.RECOVERING, 5.0),))
    found = only(snapshot(state))
    assert {one.kind: one.advice for one in found.reasons} == {
        ReasonKind.XID: WAIT,
        ReasonKind.THERMAL: ADVICE[ReasonKind.THERMAL].what_to_do,
    }
    assert ReasonKind.THERMAL not in FAULTS


def test_a_device_that_the_monitor_leaves_out() -> None:
    """A GPU of which the monitor says nothing is not healthy, and its state is unknown."""
    found = only(snapshot(node(gpu(0), health=(DeviceHealth("other"),))))
    assert (found.state, found.healthy) == (None, False)
    assert [reason.kind for reason in found.reasons] == [ReasonKind.NOT_FOUND]


@pytest.mark.parametrize(
    ("unknown", "node_at", "reason"),
    [
        (Reason(ReasonKind.MAINTENANCE), NOW, ReasonKind.MAINTENANCE),
        (Reason(ReasonKind.DRIVER_HANG, "a call"), 0.0, ReasonKind.DRIVER_HANG),
        (None, NOW - STALE_AFTER - 0.1, ReasonKind.MONITOR_SILENT),
    ],
)
def test_a_monitor_that_does_not_speak(
    unknown: Reason | None, node_at: float, reason: ReasonKind
) -> None:
    """While nobody looks, no state is known and nothing is healthy; old reasons are still told."""
    service = ServiceState(processes=(), planned=(), unknown=unknown)
    state = node(
        gpu(0), health=(DeviceHealth(gpu(0).uuid, (XID,), DeviceState.RECOVERING, 5.0, 7),)
    )
    found = only(Snapshot(service, NOW, state, node_at=node_at))
    assert (found.state, found.healthy, found.since, found.transitions) == (None, False, None, 7)
    assert [one.kind for one in found.reasons] == [ReasonKind.XID, reason]
    assert found.reasons[0].advice == "Stop the pods that use the GPU, then reset the GPU."


def test_what_is_advertised_of_a_gpu() -> None:
    """For each resource with a part of the GPU: what is advertised, held and unhealthy of it."""
    health = (DeviceHealth("A", (XID,), DeviceState.UNHEALTHY), DeviceHealth("B"))
    state = node(gpu(0, uuid="A"), gpu(1, uuid="B"), health=health)
    held = tuple(Allocation(SHARED, device, "n", "p", "c") for device in ("A::0", "A::2", "B::1"))
    known = snapshot(state, {SHARED: {"A": 3, "B": 4}, "nvidia.com/whole": {"C": 1}}, held)
    assert [one.resources for one in shown(known) or ()] == [
        (report.ShareStatus(SHARED, 3, 2, 3),),
        (report.ShareStatus(SHARED, 4, 1, 0),),
    ]


def test_a_gpu_in_mig_mode() -> None:
    """A fault of one instance is that instance's, and counts against those who get it."""
    found = mig_gpu(1, "1g.10gb", "1g.10gb")
    health = (
        DeviceHealth(found.uuid),
        DeviceHealth(FIRST, since=5.0),
        DeviceHealth(SECOND, (XID,), DeviceState.UNHEALTHY, transitions=1),
    )
    held = (Allocation(SLICE, FIRST, "n", "p", "c"),)
    state = replace(node(found, health=health), whole_gpus=False)
    seen = only(snapshot(state, {SLICE: {FIRST: 1, SECOND: 1}}, held))
    assert (seen.mig, seen.healthy) == (True, True)
    assert seen.resources == (report.ShareStatus(SLICE, 2, 1, 1),)
    assert seen.holders == (report.Holder("n", "p", "c", SLICE, FIRST, FIRST),)
    assert [(one.uuid, one.state, one.healthy) for one in seen.instances] == [
        (FIRST, DeviceState.HEALTHY, True),
        (SECOND, DeviceState.UNHEALTHY, False),
    ]
    first = seen.instances[0]
    assert (first.place, first.gpu_instance, first.compute_instance) == (0, 7, 0)
    assert (first.profile, first.memory_mib, first.since) == ("1g.10gb", 9984, 5.0)


def test_a_whole_gpu_is_unhealthy_with_its_instances() -> None:
    """Whoever gets a whole GPU gets its instances: it is no healthier than they are."""
    found = mig_gpu(1, "1g.10gb")
    health = (DeviceHealth(found.uuid), DeviceHealth(FIRST, (XID,), DeviceState.UNHEALTHY))
    seen = only(snapshot(node(found, health=health), {SHARED: {found.uuid: 4}}))
    assert seen.resources == (report.ShareStatus(SHARED, 4, 0, 4),)
    assert (seen.healthy, seen.state) == (False, DeviceState.UNHEALTHY)
    assert seen.reasons == seen.instances[0].reasons


def test_holders() -> None:
    """Each device that a container holds is on its GPU; one of no GPU is a stray."""
    allocations = (
        Allocation(SHARED, "A::1", "z", "pod", "main"),
        Allocation(SHARED, "A::0", "a", "pod", "main"),
        Allocation(SHARED, "gone::0", "a", "pod", "main"),
    )
    known = snapshot(node(gpu(0, uuid="A")), {SHARED: {"A": 2}}, allocations)
    assert only(known).holders == (
        report.Holder("a", "pod", "main", SHARED, "A", "A::0"),
        report.Holder("z", "pod", "main", SHARED, "A", "A::1"),
    )
    assert strays(known) == (report.Holder("a", "pod", "main", SHARED, "gone", "gone::0"),)
    assert strays(snapshot(node(gpu(0)), allocations=None)) is None
