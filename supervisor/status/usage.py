"""Who uses how much of each GPU: joins samples, the owners of processes, and allocations."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from proto.messages import Gpu, UsageState
from proto.mps import MpsDaemon
from proto.usage import DeviceUsage, GpuProcess
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import KnownUsage, Snapshot
from supervisor.status.usage_owner import UNKNOWN, OwnerKind
from supervisor.status.usage_report import DeviceUse, HolderKind, HolderUse, NodeUse

MIB = 1 << 20

CLEAN = 1 << 30
"""Bytes that may be in use on a GPU without processes: the driver and its tools need some."""


class Who(NamedTuple):
    """Whose processes are added up."""

    kind: HolderKind
    namespace: str = ""
    pod: str = ""
    container: str = ""


@dataclass(frozen=True, slots=True)
class Holding:
    """What somebody holds of a device."""

    resource: str | None
    held: int
    replicas: int | None
    """How many there are of the device; None: unknown."""


Processes = dict[Who, list[GpuProcess]]

Holders = Mapping[tuple[str, str], Collection[Allocation]]
"""The allocations of a device, by namespace and pod."""


def known(snapshot: Snapshot, now: float, stale_after: float) -> KnownUsage | None:
    """Return the newest usage; None: there is none, or the monitor is silent."""
    usage = snapshot.usage
    fresh = usage and now - usage.at <= stale_after + usage.state.interval
    return usage if fresh else None


def node_use(snapshot: Snapshot, now: float, wall: float, stale_after: float) -> NodeUse | None:
    """Return how usage is sampled at *now*, which is *wall* as unix time; None: it is not."""
    usage = known(snapshot, now, stale_after)
    if usage is None:
        return None
    received = wall - (now - usage.at)
    return NodeUse(usage.state.interval, received, usage.owners.problem or None)


def device_uses(snapshot: Snapshot, now: float, stale_after: float) -> dict[str, DeviceUse]:
    """Return the use of each GPU and MIG instance of the node that is sampled, by UUID."""
    usage = known(snapshot, now, stale_after)
    if usage is None or snapshot.node is None:
        return {}
    join = _Join(snapshot, usage)
    return dict(row for gpu in snapshot.node.inventory.gpus for row in join.rows(gpu))


class _Join:
    """Joins one message of samples with what else is known at that moment."""

    def __init__(self, snapshot: Snapshot, usage: KnownUsage) -> None:
        self._owners = usage.owners
        self._samples = _by_uuid(usage.state)
        self._held: defaultdict[str, list[Allocation]] = defaultdict(list)
        self._kubelet_answers = snapshot.allocations is not None
        # Of the last word, also an old one: else its server would count as a stray for a while.
        word = snapshot.mps.state if snapshot.mps else None
        self._daemons = {daemon.uuid: daemon for daemon in word.daemons} if word else {}
        self._by_mps = snapshot.mps_shares().keys() | self._daemons.keys()
        for held in (*(snapshot.allocations or ()), *snapshot.foreign, *_through_dra(snapshot)):
            self._held[held.uuid].append(held)
        workers = [word[0] for word in snapshot.planned_workers().values() if word]
        self._replicas = {
            (worker.resource, uuid): count
            for worker in workers
            for uuid, count in worker.replicas.items()
        }

    def rows(self, gpu: Gpu) -> Iterator[tuple[str, DeviceUse]]:
        """Yield the use of a GPU, and of its MIG instances."""
        if gpu.uuid in self._samples:
            yield gpu.uuid, self._row(self._samples[gpu.uuid], gpu.memory_mib)
        for mig in gpu.instances:
            if mig.uuid in self._samples:
                yield mig.uuid, self._row(self._samples[mig.uuid], mig.memory_mib, gpu.uuid)

    def _row(self, sample: DeviceUsage, memory_mib: int | None, parent: str = "") -> DeviceUse:
        total = sample.memory_total
        if total is None and memory_mib is not None:
            total = memory_mib * MIB
        return DeviceUse(
            utilization_percent=sample.utilization,
            memory_utilization_percent=sample.memory_utilization,
            memory_used_bytes=sample.memory_used,
            memory_total_bytes=total,
            memory_reserved_bytes=sample.memory_reserved,
            temperature_celsius=sample.temperature,
            power_watts=sample.power,
            power_limit_watts=sample.power_limit,
            sm_clock_mhz=sample.sm_clock,
            memory_clock_mhz=sample.memory_clock,
            leaked_bytes=self._leaked(sample, parent),
            holders=self._holders(sample, total, parent),
        )

    def _leaked(self, sample: DeviceUsage, parent: str) -> int | None:
        """Return the memory that is in use though the device is free; None: shared or unknown."""
        counts = [count for (_, uuid), count in self._replicas.items() if uuid == sample.uuid]
        if not self._kubelet_answers or counts != [1]:
            return None
        if self._held[sample.uuid] or self._held.get(parent):
            return 0
        if sample.memory_used is None and sample.processes is None:
            return None
        if sample.uuid in self._by_mps:
            return _leaked_beside(self._daemons.get(sample.uuid), sample.processes)
        by_processes = sum(process.memory or 0 for process in sample.processes or ())
        used = max(sample.memory_used or 0, by_processes)
        return used if sample.processes or used > CLEAN else 0

    def _holders(
        self, sample: DeviceUsage, total: int | None, parent: str
    ) -> tuple[HolderUse, ...] | None:
        if sample.processes is None and not self._kubelet_answers:
            return None
        own = self._held[sample.uuid]
        # Who holds the whole GPU may use its instances.
        holders = _by_pod([*own, *self._held.get(parent, ())])
        found = self._found(sample, holders)
        # Processes whose container is unknown may be those of any holder.
        complete = sample.processes is not None and not self._owners.problem
        complete &= Who(HolderKind.UNKNOWN) not in found
        for held in own:
            found.setdefault(_container(held), [])
        rows = (
            _figures(
                who,
                mine if mine or complete else None,
                self._held_by(who, holders, sample.uuid),
                total,
            )
            for who, mine in found.items()
        )
        return tuple(sorted(rows, key=_most_memory))

    def _found(self, sample: DeviceUsage, holders: Holders) -> Processes:
        """Return the processes of each holder that has some; none if nobody can tell them apart."""
        if self._owners.problem:
            return {}
        found: Processes = defaultdict(list)
        for process in sample.processes or ():
            found[self._who(sample.uuid, process.pid, holders)].append(process)
        return dict(found)

    def _who(self, uuid: str, pid: int, holders: Holders) -> Who:
        if uuid in self._daemons and pid == self._daemons[uuid].server:
            return Who(HolderKind.MPS)
        owner = self._owners.of.get((uuid, pid), UNKNOWN)
        if owner.kind is not OwnerKind.CONTAINER:
            host = owner.kind is OwnerKind.HOST
            return Who(HolderKind.HOST if host else HolderKind.UNKNOWN)
        pod = (owner.namespace, owner.pod)
        names = {held.container for held in holders.get(pod, ())}
        if not owner.container and len(names) == 1:
            return Who(HolderKind.CONTAINER, *pod, *names)
        holds = owner.container in names if owner.container else bool(names)
        unallocated = self._kubelet_answers and not holds
        kind = HolderKind.UNALLOCATED if unallocated else HolderKind.CONTAINER
        return Who(kind, *pod, owner.container)

    def _held_by(self, who: Who, holders: Holders, uuid: str) -> Holding:
        pod = holders.get((who.namespace, who.pod), ())
        # The name of a container may be unknown.
        mine = [held for held in pod if who.container in {"", held.container}]
        if not mine or who.kind is not HolderKind.CONTAINER:
            return Holding(None, 0, None)
        # Of several resources, the one that is still advertised.
        resource = min(
            (h.resource for h in mine), key=lambda r: ((r, uuid) not in self._replicas, r)
        )
        held = sum(h.resource == resource and h.uuid == uuid for h in mine)
        return Holding(resource, held, self._replicas.get((resource, uuid)))


def _through_dra(snapshot: Snapshot) -> Iterator[Allocation]:
    """Yield an allocation for each device that is held, or may be held, through DRA.

    Its resource is the DRA driver: such a container holds the device, so its use is no leak.
    """
    found = {
        Allocation(held.driver, uuid, held.namespace, held.pod, held.container)
        for hold in snapshot.through_dra()
        for held in (hold.device,)
        for uuid in hold.uuids
    }
    yield from found


def _leaked_beside(
    daemon: MpsDaemon | None, processes: tuple[GpuProcess, ...] | None
) -> int | None:
    """Return the memory of processes beside the MPS server, which keeps memory without a client.

    None: unknown, as the driver does not list the server under the PID that its daemon has told.
    """
    if daemon is None or processes is None:
        return None
    if daemon.server and daemon.server not in {process.pid for process in processes}:
        return None
    return sum(process.memory or 0 for process in processes if process.pid != daemon.server)


def _figures(
    who: Who, processes: list[GpuProcess] | None, holding: Holding, total: int | None
) -> HolderUse:
    """Return what a holder uses, on a device with *total* bytes of memory."""
    return HolderUse(
        kind=who.kind,
        namespace=who.namespace or None,
        pod=who.pod or None,
        container=who.container or None,
        resource=holding.resource,
        held=holding.held,
        processes=None if processes is None else len(processes),
        memory_used_bytes=_sum(processes, [p.memory for p in processes or ()]),
        memory_share_bytes=_share(total, holding),
        utilization_percent=_sum(processes, [p.utilization for p in processes or ()]),
    )


def _share(total: int | None, holding: Holding) -> int | None:
    if not (total and holding.held and holding.replicas):
        return None
    return total * holding.held // holding.replicas


def _by_uuid(state: UsageState) -> dict[str, DeviceUsage]:
    return {device.uuid: device for device in state.devices}


def _by_pod(held: Iterable[Allocation]) -> Holders:
    found: defaultdict[tuple[str, str], list[Allocation]] = defaultdict(list)
    for allocation in held:
        found[allocation.namespace, allocation.pod].append(allocation)
    return found


def _container(held: Allocation) -> Who:
    return Who(HolderKind.CONTAINER, held.namespace, held.pod, held.container)


def _sum(processes: list[GpuProcess] | None, figures: list[int | None]) -> int | None:
    """Return the sum of the *figures* that are known; None: no process has a known one."""
    told = [figure for figure in figures if figure is not None]
    return None if processes is None or (processes and not told) else sum(told)


def _most_memory(holder: HolderUse) -> tuple[object, ...]:
    names = (holder.namespace or "", holder.pod or "", holder.container or "")
    return -(holder.memory_used_bytes or 0), holder.kind, *names
