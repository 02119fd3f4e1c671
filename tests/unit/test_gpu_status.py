"""The status of GPUs, MIG instances and the containers that hold them."""

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

from health.advice import ACTIONS, ADVICE, FAULTS, WAIT, advise
from health.xid_catalogue import Action
from proto.calls import LookTime
from proto.control import ServiceState, Unknown
from proto.grey import GreyFailure
from proto.messages import DeviceHealth, DeviceState, Gpu, NodeState
from proto.reasons import Reason, ReasonKind
from supervisor.commands.show_status import show
from supervisor.status import report
from supervisor.status.allocations import Allocation
from supervisor.status.gpus import Facts, gpus, strays
from supervisor.status.page import page
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About
from supervisor.status.status import status as make
from tests.unit.builders import gpu, inventory, mig_gpu, mig_uuid, node_state, worker_state

NOW, STALE_AFTER = 100.0, 10.0
SHARED, SLICE = "nvidia.com/sharedgpu", "nvidia.com/mig-1g.10gb"
FIRST, SECOND = mig_uuid(1, 0), mig_uuid(1, 1)
XID = Reason(ReasonKind.XID, "48")


def node(*found: Gpu, health: tuple[DeviceHealth, ...] | None = None) -> NodeState:
    """Return the state of a node with these GPUs; they are Healthy without *health*."""
    uuids = [uuid for gpu in found for uuid in (gpu.uuid, *(i.uuid for i in gpu.instances))]
    well = tuple(map(DeviceHealth, uuids))
    return replace(node_state({}), inventory=inventory(*found), health=health or well)


def snapshot(
    state: NodeState,
    replicas: dict[str, dict[str, int]] | None = None,
    allocations: tuple[Allocation, ...] | None = (),
) -> Snapshot:
    """Return the snapshot of a node; *replicas* has numbers by resource and UUID."""
    replicas = replicas or {}
    workers = {name: (worker_state(name, replicas=own), NOW) for name, own in replicas.items()}
    service = ServiceState(processes=(), planned=tuple(replicas))
    return Snapshot(service, NOW, state, workers, allocations, node_at=NOW)


def shown(known: Snapshot) -> tuple[report.GpuStatus, ...] | None:
    """Return the status of the GPUs at NOW."""
    return gpus(known, Facts(known.fitness(NOW, STALE_AFTER), {}, {}, {}))


def only(known: Snapshot) -> report.GpuStatus:
    """Return the status of the node's only GPU."""
    (found,) = shown(known) or ()
    return found


def test_a_healthy_gpu() -> None:
    """The status of a Healthy GPU has its properties and no reason."""
    known = DeviceHealth("A", since=50.0, transitions=2, recovery_action=0)
    state = node(gpu(3, uuid="A", numa_node=1), health=(known,))
    state = replace(state, looks=(LookTime("A", 0.25),))
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
        check_seconds=0.25,
        monitoring=report.Monitoring.EVENTS,
        mig=False,
        instances=(),
        resources=(),
        holders=(),
        dra_holders=(),
    )


def test_unknown_properties_are_null() -> None:
    """Properties of a GPU that the driver does not report are null."""
    found = gpu(0, uuid="A", memory_mib=None, events=False)
    seen = only(snapshot(node(found), allocations=None))
    assert (seen.memory_mib, seen.numa_node, seen.recovery_action) == (None, None, None)
    assert (seen.since, seen.holders) == (None, None)
    assert seen.monitoring is report.Monitoring.POLLING
    assert only(Snapshot(None, 0.0, node(found), node_at=NOW)).resources is None
    assert shown(Snapshot()) is None


@pytest.mark.parametrize("kind", ReasonKind)
def test_every_reason_has_words_and_advice(kind: ReasonKind) -> None:
    """Each kind of reason has its own words and advice, and shows its detail."""
    reason = Reason(kind, "the detail")
    state = node(gpu(0), health=(DeviceHealth(gpu(0).uuid, (reason,), DeviceState.UNHEALTHY),))
    found = only(snapshot(state))
    words, advice = advise(reason)
    assert not found.healthy
    assert found.reasons == (
        report.ReasonStatus(kind, "the detail", f"{words}: the detail", advice),
    )
    assert words
    assert advice.endswith(".")
    assert all(words != entry.words for other, entry in ADVICE.items() if other is not kind)


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
def test_an_xid_has_its_name_and_advice(xid: str, text: str, advice: str) -> None:
    """A fatal Xid has its name and its advice from the catalogue."""
    state = node(gpu(0), health=(DeviceHealth(gpu(0).uuid, (Reason(ReasonKind.XID, xid),)),))
    assert only(snapshot(state)).reasons == (
        report.ReasonStatus(ReasonKind.XID, xid, text, advice),
    )


def test_the_advice_for_a_recovering_gpu() -> None:
    """The advice for a recovering fault is to wait; an ailment keeps its usual advice."""
    reasons = (XID, Reason(ReasonKind.THERMAL))
    state = node(gpu(0), health=(DeviceHealth(gpu(0).uuid, reasons, DeviceState.RECOVERING, 5.0),))
    found = only(snapshot(state))
    assert {reason.kind: reason.advice for reason in found.reasons} == {
        ReasonKind.XID: WAIT,
        ReasonKind.THERMAL: ADVICE[ReasonKind.THERMAL].what_to_do,
    }
    assert ReasonKind.THERMAL not in FAULTS


def test_a_gpu_missing_from_the_health_list() -> None:
    """A GPU without health from the monitor is Unhealthy: not-found, state unknown."""
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
def test_gpus_while_the_monitor_is_silent(
    unknown: Reason | None, node_at: float, reason: ReasonKind
) -> None:
    """While the monitor is silent, GPUs are Unhealthy, keep old reasons, and have no state."""
    service = ServiceState(
        processes=(), planned=(), unknown=Unknown(unknown, epoch=1) if unknown else None
    )
    state = node(
        gpu(0), health=(DeviceHealth(gpu(0).uuid, (XID,), DeviceState.RECOVERING, 5.0, 7),)
    )
    found = only(Snapshot(service, NOW, state, node_at=node_at))
    assert (found.state, found.healthy, found.since, found.transitions) == (None, False, None, 7)
    assert [listed.kind for listed in found.reasons] == [ReasonKind.XID, reason]
    assert found.reasons[0].advice == "Stop the pods that use the GPU, then reset the GPU."


def test_what_is_advertised_of_a_gpu() -> None:
    """Each resource on a GPU has its number of advertised, used and Unhealthy devices."""
    health = (DeviceHealth("A", (XID,), DeviceState.UNHEALTHY), DeviceHealth("B"))
    state = node(gpu(0, uuid="A"), gpu(1, uuid="B"), health=health)
    held = tuple(Allocation(SHARED, device, "n", "p", "c") for device in ("A::0", "A::2", "B::1"))
    known = snapshot(state, {SHARED: {"A": 3, "B": 4}, "nvidia.com/whole": {"C": 1}}, held)
    assert [shown_gpu.resources for shown_gpu in shown(known) or ()] == [
        (report.ShareStatus(SHARED, 3, 2, 3),),
        (report.ShareStatus(SHARED, 4, 1, 0),),
    ]


def test_a_gpu_in_mig_mode() -> None:
    """The fault of a MIG instance makes that instance Unhealthy, but not its GPU."""
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
    assert [(part.uuid, part.state, part.healthy) for part in seen.instances] == [
        (FIRST, DeviceState.HEALTHY, True),
        (SECOND, DeviceState.UNHEALTHY, False),
    ]
    first = seen.instances[0]
    assert (first.place, first.gpu_instance, first.compute_instance) == (0, 7, 0)
    assert (first.profile, first.memory_mib, first.since) == ("1g.10gb", 9984, 5.0)


def test_a_whole_gpu_is_unhealthy_with_its_instances() -> None:
    """A GPU that is allocated whole is Unhealthy when one of its MIG instances is."""
    found = mig_gpu(1, "1g.10gb")
    health = (DeviceHealth(found.uuid), DeviceHealth(FIRST, (XID,), DeviceState.UNHEALTHY))
    seen = only(snapshot(node(found, health=health), {SHARED: {found.uuid: 4}}))
    assert seen.resources == (report.ShareStatus(SHARED, 4, 0, 4),)
    assert (seen.healthy, seen.state) == (False, DeviceState.UNHEALTHY)
    assert seen.reasons == seen.instances[0].reasons


def test_holders() -> None:
    """A GPU lists the containers that hold its devices; devices of unknown GPUs are strays."""
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


def test_grey_failures() -> None:
    """A grey failure is shown apart from the reasons, unless it is one, or the health unknown."""
    pcie = Reason(ReasonKind.PCIE, "x8 instead of x16")
    slow = Reason(ReasonKind.SLOWDOWN)
    found = (GreyFailure("A", pcie), GreyFailure("A", slow), GreyFailure("B", pcie))
    health = (DeviceHealth("A", (pcie,), DeviceState.UNHEALTHY),)
    state = replace(node(gpu(0, uuid="A"), health=health), grey=found)
    assert only(snapshot(state)).grey == (report.ReasonStatus(slow.kind, "", *ADVICE[slow.kind]),)
    assert [reason.kind for reason in only(snapshot(state)).reasons] == [pcie.kind]
    silent = Snapshot(None, 0.0, state, node_at=NOW - STALE_AFTER - 1)
    assert only(silent).grey == ()


def test_a_grey_failure_for_people() -> None:
    """The page and the command name the failure and what to do, though the GPU is Healthy."""
    failure = Reason(ReasonKind.PCIE, "x8 instead of x16")
    state = replace(node(gpu(3, uuid="A")), grey=(GreyFailure("A", failure),))
    shown = make(snapshot(state), About("1", STALE_AFTER), NOW, 1e9)
    terminal = io.StringIO()
    show(shown, Console(file=terminal, width=300))
    words = f"grey failure: {ADVICE[failure.kind].words}: x8 instead of x16"
    assert f"! GPU 3: {words}. {ADVICE[failure.kind].what_to_do}" in terminal.getvalue()
    assert words in page(shown, {})
    assert shown.gpus
    assert shown.gpus[0].healthy


def test_a_degraded_fabric_has_its_own_advice() -> None:
    """A fabric that works, but worse, is told apart from one that nobody can use."""
    degraded = advise(Reason(ReasonKind.FABRIC, "degraded: less bandwidth"))
    others = [advise(Reason(ReasonKind.FABRIC, detail)) for detail in ("", "SXid 1", "not started")]
    assert degraded not in others
    assert "worse" in degraded.words
