"""The GPUs in the status: their health, their resources, and which containers hold them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from health.remedies import ordered, what_to_do
from proto.fitness import Fitness
from proto.messages import DeviceState, Gpu
from proto.reasons import Reason
from supervisor.status import report
from supervisor.status.allocations import Allocation
from supervisor.status.dra import DynamicHold
from supervisor.status.dra_report import DraHolder
from supervisor.status.mps_report import MpsStatus
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage_report import DeviceUse


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of the devices, by UUID."""

    fitness: Fitness
    uses: Mapping[str, DeviceUse]
    mps: Mapping[str, MpsStatus]
    dra: Mapping[str, tuple[DraHolder, ...]]
    """Of GPUs only."""


def gpus(snapshot: Snapshot, known: Facts) -> tuple[report.GpuStatus, ...] | None:
    """Return the status of each GPU, with its health, its usage and its sharing from *known*."""
    if snapshot.node is None:
        return () if snapshot.nothing_to_serve else None
    return tuple(_gpu(gpu, snapshot, known) for gpu in snapshot.node.inventory.gpus)


def _device(uuid: str, devices: Facts) -> report.DeviceStatus:
    """Return the fields that GPUs and MIG instances share."""
    fitness = devices.fitness
    reasons, state, known = fitness.reasons(uuid), fitness.state(uuid), fitness.devices.get(uuid)
    due = what_to_do(reasons, state)
    return report.DeviceStatus(
        uuid=uuid,
        state=state,
        healthy=not reasons,
        reasons=tuple(_explained(reasons, state)),
        since=known.since or None if known and state else None,
        transitions=known.transitions if known else None,
        usage=devices.uses.get(uuid),
        mps=devices.mps.get(uuid),
        remedy=due.remedy if due else None,
        advice=due.advice if due else None,
    )


def _gpu(gpu: Gpu, snapshot: Snapshot, devices: Facts) -> report.GpuStatus:
    known = devices.fitness.devices.get(gpu.uuid)
    return report.GpuStatus(
        **msgspec.structs.asdict(_device(gpu.uuid, devices)),
        index=gpu.index,
        model=gpu.name,
        pci_bus_id=gpu.pci_bus_id,
        numa_node=gpu.numa_node,
        memory_mib=gpu.memory_mib,
        unified_memory=gpu.unified_memory,
        recovery_action=known.recovery_action if known else None,
        licensed=known.licensed if known else None,
        check_seconds=_look_seconds(gpu.uuid, snapshot),
        monitoring=report.Monitoring.EVENTS if gpu.events else report.Monitoring.POLLING,
        mig=gpu.mig_enabled,
        instances=tuple(_instances(gpu, devices)),
        resources=_shares(gpu, snapshot, devices.fitness),
        holders=_holders(snapshot.allocations, set(_uuids(gpu))),
        dra_holders=None if snapshot.allocations is None else devices.dra.get(gpu.uuid, ()),
        grey=tuple(_explained(_grey(gpu.uuid, snapshot, devices.fitness), None)),
    )


def _grey(uuid: str, snapshot: Snapshot, fitness: Fitness) -> list[Reason]:
    """Return the grey failures of a GPU that are no reasons why it is Unhealthy."""
    if snapshot.node is None or fitness.blind:
        return []
    reasons = fitness.reasons(uuid)
    mine = (failure.reason for failure in snapshot.node.grey if failure.uuid == uuid)
    return [reason for reason in mine if reason not in reasons]


def _look_seconds(uuid: str, snapshot: Snapshot) -> float | None:
    looks = snapshot.node.looks if snapshot.node else ()
    return next((look.seconds for look in looks if look.uuid == uuid), None)


def _instances(gpu: Gpu, devices: Facts) -> Iterator[report.InstanceStatus]:
    for instance in gpu.instances:
        yield report.InstanceStatus(
            **msgspec.structs.asdict(_device(instance.uuid, devices)),
            place=instance.place,
            gpu_instance=instance.gi,
            compute_instance=instance.ci,
            profile=instance.profile or None,
            memory_mib=instance.memory_mib,
        )


def _uuids(gpu: Gpu) -> Iterator[str]:
    """Yield the UUIDs of a GPU and of its MIG instances."""
    yield gpu.uuid
    for instance in gpu.instances:
        yield instance.uuid


def _explained(
    reasons: Iterable[Reason], state: DeviceState | None
) -> Iterator[report.ReasonStatus]:
    """Yield the reasons of a device in words, each with what to do, the gravest first."""
    for reason, advice in ordered(reasons, state):
        yield report.ReasonStatus(reason.kind, reason.detail, *advice)


def _shares(
    gpu: Gpu, snapshot: Snapshot, fitness: Fitness
) -> tuple[report.ShareStatus, ...] | None:
    if snapshot.service is None or snapshot.service.planned is None:
        return None
    shares = []
    for resource, word in snapshot.planned_workers().items():
        replicas = word[0].replicas if word else {}
        theirs = {uuid: replicas[uuid] for uuid in _uuids(gpu) if replicas.get(uuid)}
        if theirs:
            held = used(snapshot.allocations, resource, theirs)
            unhealthy = sum(count for uuid, count in theirs.items() if fitness.reasons(uuid))
            shares.append(report.ShareStatus(resource, sum(theirs.values()), held, unhealthy))
    return tuple(shares)


def used(
    allocations: tuple[Allocation, ...] | None, resource: str, uuids: Collection[str] | None = None
) -> int | None:
    """Return how many devices of *resource* containers hold, on *uuids* or all; None: unknown."""
    if allocations is None:
        return None
    mine = (held.uuid for held in allocations if held.resource == resource)
    return sum(uuids is None or uuid in uuids for uuid in mine)


def _holders(
    allocations: tuple[Allocation, ...] | None, uuids: Collection[str]
) -> tuple[report.Holder, ...] | None:
    if allocations is None:
        return None
    return tuple(sorted(_holder(held) for held in allocations if held.uuid in uuids))


def dra_holders(snapshot: Snapshot) -> dict[str, tuple[DraHolder, ...]]:
    """Return who holds a GPU or its MIG instances through DRA, by the UUID of the GPU."""
    holds = snapshot.through_dra()
    if not holds or snapshot.node is None:
        return {}
    booked = {hold for booked in snapshot.booked_twice().values() for hold in booked}
    gpus = {uuid: gpu.uuid for gpu in snapshot.node.inventory.gpus for uuid in _uuids(gpu)}
    found: defaultdict[str, set[DraHolder]] = defaultdict(set)
    for hold in holds:
        for gpu in {gpus[uuid] for uuid in hold.uuids}:
            found[gpu].add(_dra_holder(hold, advertised=hold in booked))
    return {gpu: tuple(sorted(holders)) for gpu, holders in found.items()}


def _dra_holder(hold: DynamicHold, *, advertised: bool) -> DraHolder:
    device = hold.device
    return DraHolder(
        namespace=device.namespace,
        pod=device.pod,
        container=device.container,
        claim=device.claim,
        driver=device.driver,
        pool=device.pool,
        device=device.device,
        uuids=hold.uuids,
        match=hold.match,
        advertised=advertised,
    )


def _holder(held: Allocation) -> report.Holder:
    container = (held.namespace, held.pod, held.container)
    return report.Holder(*container, held.resource, held.uuid, held.device)


def strays(snapshot: Snapshot) -> tuple[report.Holder, ...] | None:
    """Return the containers that hold devices of GPUs that the node does not have."""
    if snapshot.node is None or snapshot.allocations is None:
        return None
    placed = {uuid for gpu in snapshot.node.inventory.gpus for uuid in _uuids(gpu)}
    return _holders(snapshot.allocations, {held.uuid for held in snapshot.allocations} - placed)
