"""How the GPUs are, what of them is advertised, and who holds it."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from health import xid_catalogue
from health.advice import ADVICE
from health.xid_catalogue import Action
from proto.messages import DeviceHealth, DeviceState, Gpu, Reason, ReasonKind
from supervisor.status import report
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import Snapshot

ACTIONS = {
    Action.IGNORE: "The settings make this Xid fatal; NVIDIA's catalogue asks for nothing.",
    Action.RESTART_APP: "The settings make this Xid fatal; "
    "NVIDIA's catalogue asks to restart the application.",
    Action.RESET_GPU: "Drain the GPU and reset it.",
    Action.REBOOT: "Drain the node and reboot it.",
    Action.CONTACT_SUPPORT: "Contact the support of NVIDIA or of the machine's maker.",
}
"""What to do about a fatal Xid, by what NVIDIA's catalogue recommends."""

FAULTS = {ReasonKind.XID, ReasonKind.GPU_LOST}
"""Reasons that a recovering device still bears though they are proven to be gone."""

WAIT = "Wait: the fault is gone, and the device comes back when it has stayed quiet."

UNSEEN = (Reason(ReasonKind.NOT_FOUND),)


@dataclass(frozen=True, slots=True)
class _Conditions:
    """How the devices are, by UUID."""

    known: Mapping[str, DeviceHealth] = field(default_factory=dict)
    blind: tuple[Reason, ...] = ()
    """Why nothing is known of any of them now; what was known may still help."""

    def reasons(self, uuid: str) -> tuple[Reason, ...]:
        known = self.known.get(uuid)
        return (known.reasons if known else UNSEEN) + self.blind

    def state(self, uuid: str) -> DeviceState | None:
        known = self.known.get(uuid)
        return known.state if known and not self.blind else None

    def since(self, uuid: str) -> float | None:
        known = self.known.get(uuid)
        return known.since or None if known and not self.blind else None

    def transitions(self, uuid: str) -> int | None:
        known = self.known.get(uuid)
        return known.transitions if known else None


def gpus(snapshot: Snapshot, heard_from: float) -> tuple[report.GpuStatus, ...] | None:
    """Return the GPUs; a monitor that was last heard of before *heard_from* is silent."""
    if snapshot.node is None:
        return None
    conditions = _conditions(snapshot, heard_from)
    return tuple(_gpu(gpu, snapshot, conditions) for gpu in snapshot.node.inventory.gpus)


def _conditions(snapshot: Snapshot, heard_from: float) -> _Conditions:
    """Return what is known; a monitor that was last heard of before is silent."""
    known = {device.uuid: device for device in snapshot.node.health} if snapshot.node else {}
    if snapshot.service and snapshot.service.unknown:
        return _Conditions(known, (snapshot.service.unknown,))
    if snapshot.node_at < heard_from:
        return _Conditions(known, (Reason(ReasonKind.MONITOR_SILENT),))
    return _Conditions(known)


def _gpu(gpu: Gpu, snapshot: Snapshot, conditions: _Conditions) -> report.GpuStatus:
    reasons, state = conditions.reasons(gpu.uuid), conditions.state(gpu.uuid)
    known = conditions.known.get(gpu.uuid)
    return report.GpuStatus(
        uuid=gpu.uuid,
        state=state,
        healthy=not reasons,
        reasons=tuple(_explained(reasons, state)),
        since=conditions.since(gpu.uuid),
        transitions=conditions.transitions(gpu.uuid),
        index=gpu.index,
        model=gpu.name,
        pci_bus_id=gpu.pci_bus_id,
        numa_node=gpu.numa_node,
        memory_mib=gpu.memory_mib,
        recovery_action=known.recovery_action if known else None,
        monitoring=report.Monitoring.EVENTS if gpu.events else report.Monitoring.POLLING,
        mig=gpu.mig_enabled,
        instances=tuple(_instances(gpu, conditions)),
        resources=_shares(gpu, snapshot, conditions),
        holders=_holders(snapshot.allocations, set(_uuids(gpu))),
    )


def _instances(gpu: Gpu, conditions: _Conditions) -> Iterator[report.InstanceStatus]:
    for instance in gpu.instances:
        reasons, state = conditions.reasons(instance.uuid), conditions.state(instance.uuid)
        yield report.InstanceStatus(
            uuid=instance.uuid,
            state=state,
            healthy=not reasons,
            reasons=tuple(_explained(reasons, state)),
            since=conditions.since(instance.uuid),
            transitions=conditions.transitions(instance.uuid),
            place=instance.place,
            gpu_instance=instance.gi,
            compute_instance=instance.ci,
            profile=instance.profile or None,
            memory_mib=instance.memory_mib,
        )


def _uuids(gpu: Gpu) -> Iterator[str]:
    """Yield the UUIDs under which a GPU or a part of it may be handed out."""
    yield gpu.uuid
    for instance in gpu.instances:
        yield instance.uuid


def _explained(
    reasons: Iterable[Reason], state: DeviceState | None
) -> Iterator[report.ReasonStatus]:
    """Yield the reasons of a device in words, with what to do about each."""
    for reason in reasons:
        words, advice = ADVICE[reason.kind]
        text = f"{words}: {reason.detail}" if reason.detail else words
        if reason.kind is ReasonKind.XID and reason.detail.isdecimal():
            xid = xid_catalogue.lookup(int(reason.detail))
            text, advice = f"{text}, {xid.name}", ACTIONS[xid.action]
        if state is DeviceState.RECOVERING and reason.kind in FAULTS:
            advice = WAIT
        yield report.ReasonStatus(reason.kind, reason.detail, text, advice)


def _shares(
    gpu: Gpu, snapshot: Snapshot, conditions: _Conditions
) -> tuple[report.ShareStatus, ...] | None:
    if snapshot.service is None or snapshot.service.planned is None:
        return None
    ailing = {uuid for uuid in _uuids(gpu) if conditions.reasons(uuid)}
    if ailing:
        # Whoever gets a whole GPU gets its instances with it, and with what is wrong with them.
        ailing.add(gpu.uuid)
    shares = []
    for resource, word in snapshot.planned_workers().items():
        replicas = word[0].replicas if word else {}
        theirs = {uuid: replicas[uuid] for uuid in _uuids(gpu) if replicas.get(uuid)}
        if theirs:
            held = used(snapshot.allocations, resource, theirs)
            unhealthy = sum(count for uuid, count in theirs.items() if uuid in ailing)
            shares.append(report.ShareStatus(resource, sum(theirs.values()), held, unhealthy))
    return tuple(shares)


def used(
    allocations: tuple[Allocation, ...] | None, resource: str, uuids: Collection[str] | None = None
) -> int | None:
    """Return how many devices of a *resource* are held, on *uuids* or on all, if that is known."""
    if allocations is None:
        return None
    mine = (one.uuid for one in allocations if one.resource == resource)
    return sum(uuids is None or uuid in uuids for uuid in mine)


def _holders(
    allocations: tuple[Allocation, ...] | None, uuids: Collection[str]
) -> tuple[report.Holder, ...] | None:
    if allocations is None:
        return None
    return tuple(sorted(_holder(one) for one in allocations if one.uuid in uuids))


def _holder(one: Allocation) -> report.Holder:
    return report.Holder(one.namespace, one.pod, one.container, one.resource, one.uuid, one.device)


def strays(snapshot: Snapshot) -> tuple[report.Holder, ...] | None:
    """Return who holds devices that are on no GPU of the node."""
    if snapshot.node is None or snapshot.allocations is None:
        return None
    placed = {uuid for gpu in snapshot.node.inventory.gpus for uuid in _uuids(gpu)}
    return _holders(snapshot.allocations, {one.uuid for one in snapshot.allocations} - placed)
