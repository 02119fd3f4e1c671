"""What the exporter knows at one moment, and what the probes answer from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from proto.calls import LookTime
from proto.cluster import DraOffers
from proto.control import NodeLabels, ServiceState
from proto.driver import NOTHING_TO_SERVE
from proto.fitness import Fitness, LastMpsWord, fitness
from proto.messages import NodeState, UsageState, WorkerState
from proto.mps import UNREACHABLE, MpsDaemon, MpsShare
from proto.platform import Platform
from proto.problem import Problem, ProblemKind
from proto.reasons import ReasonKind
from supervisor.status import dra
from supervisor.status.allocations import Allocation, DynamicDevice
from supervisor.status.dra import DynamicHold
from supervisor.status.usage_owner import Owners


@dataclass(frozen=True, slots=True)
class KnownUsage:
    """The newest samples, whose processes they are, and when the samples arrived."""

    state: UsageState
    at: float
    owners: Owners


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The newest message of each process, and when it arrived."""

    service: ServiceState | None = None
    service_at: float = 0.0
    node: NodeState | None = None
    workers: Mapping[str, tuple[WorkerState, float]] = field(default_factory=dict)
    """By resource."""
    allocations: tuple[Allocation, ...] | None = None
    """Which containers hold devices; None while the kubelet does not answer."""
    node_at: float = 0.0
    usage: KnownUsage | None = None
    """None: the monitor does not sample, or has not sent samples yet."""
    foreign: tuple[Allocation, ...] = ()
    """Devices that containers hold by resources which this service does not advertise now."""
    mps: LastMpsWord | None = None
    """The last word of the MPS daemons; None: nobody listens for it."""
    dynamic: tuple[DynamicDevice, ...] = ()
    """Devices that containers hold through DRA, in the newest list of the kubelet."""

    @property
    def nothing_to_serve(self) -> bool:
        """Whether the node has no GPU for this service."""
        return bool(self.service and self.service.driver in NOTHING_TO_SERVE)

    def platform(self) -> Platform | None:
        """Return what kind of node this is; None: nobody has looked yet."""
        known = self.node.inventory.platform if self.node else None
        return known or (self.service.platform if self.service else None)

    def uuids(self) -> frozenset[str]:
        """Return the UUIDs of the node's GPUs."""
        return frozenset(gpu.uuid for gpu in self.node.inventory.gpus) if self.node else frozenset()

    def fitness(self, now: float, stale_after: float) -> Fitness:
        """Return the health of the devices at *now*."""
        unknown = self.service.unknown if self.service else None
        silent = now - self.node_at > stale_after
        held_back = self.mps.reasons(self.mps_shares(), now, stale_after) if self.mps else {}
        return fitness(self.node, unknown=unknown, silent=silent, mps=held_back)

    def mps_shares(self) -> Mapping[str, MpsShare]:
        """Return what a replica of each device comes to that the plan shares by MPS, by UUID."""
        return self.service.mps if self.service else {}

    def mps_daemons(self, now: float, stale_after: float) -> dict[str, MpsDaemon] | None:
        """Return the MPS daemons by the UUID of their device; None: their tree is silent."""
        if self.mps is None or self.mps.state is None or self.mps.silent(now, stale_after):
            return None
        return {daemon.uuid: daemon for daemon in self.mps.state.daemons}

    def problems(self) -> tuple[Problem, ...] | None:
        """Return why the node is not served as configured, or served slowly; None: unknown."""
        if self.service is None:
            return None
        looks = [look for look in self.node.looks if look.slow] if self.node else []
        return (
            *self.service.problems,
            *map(_slow, looks),
            *_without_cdi_name(self.node),
            *_unlabelled(self.service.labels),
            *_unreachable(self.mps),
            *_also_served(self.booked_twice()),
            *_offered(self.service.dra),
        )

    def through_dra(self) -> tuple[DynamicHold, ...]:
        """Return the devices of this node that containers hold through DRA."""
        return dra.holds(self.dynamic, self.node.inventory) if self.node and self.dynamic else ()

    def booked_twice(self) -> dict[str, list[DynamicHold]]:
        """Return who holds advertised devices through DRA, by the UUID of the advertised device."""
        holds = self.through_dra()
        if not (holds and self.node):
            return {}
        words = filter(None, self.planned_workers().values())
        advertised = {uuid for worker, _ in words for uuid in worker.replicas}
        return dra.booked_twice(holds, self.node.inventory, advertised)

    def planned_workers(self) -> dict[str, tuple[WorkerState, float] | None]:
        """Return the planned resources, each with the newest state of its worker."""
        planned = (self.service and self.service.planned) or ()
        return {resource: self.workers.get(resource) for resource in planned}


def _without_cdi_name(node: NodeState | None) -> Iterator[Problem]:
    """Yield one problem for all devices without a CDI name, with the reason of the first."""
    reasons = [
        reason.detail
        for device in (node.health if node else ())
        for reason in device.reasons
        if reason.kind is ReasonKind.CDI_SPEC
    ]
    if reasons:
        text = (
            f"the CDI specification lacks devices ({len(reasons)}), so no container starts with "
            f"them: {reasons[0]}"
        )
        yield Problem(ProblemKind.CDI_SPEC, text)


def _unlabelled(labels: NodeLabels | None) -> Iterator[Problem]:
    if labels and labels.reason:
        text = f"cannot write the node's labels ({labels.output}): {labels.reason}"
        yield Problem(ProblemKind.NODE_LABELS, text)


def _unreachable(mps: LastMpsWord | None) -> Iterator[Problem]:
    """Yield one problem if clients cannot reach the folder of MPS daemons."""
    daemons = mps.state.daemons if mps and mps.state else ()
    details = sorted(d.detail for d in daemons if d.detail.startswith(UNREACHABLE))
    if details:
        yield Problem(ProblemKind.MPS_ROOT, details[0].removeprefix(UNREACHABLE))


def _also_served(booked: Mapping[str, list[DynamicHold]]) -> Iterator[Problem]:
    """Yield one problem for all devices that are *booked*, with the holder of the first."""
    if not booked:
        return
    uuid, text = next(iter(sorted(dra.told(booked).items())))
    more = f", and {len(booked) - 1} more devices" if len(booked) > 1 else ""
    yield Problem(
        ProblemKind.ALSO_SERVED_BY_DRA,
        f"{text} holds {uuid} through DRA{more}, and this plugin advertises it too: two containers "
        "may get the same GPU. Serve the GPUs of this node either by this plugin or by the DRA "
        "driver",
    )


def _offered(offers: DraOffers) -> Iterator[Problem]:
    if offers.devices:
        yield Problem(ProblemKind.OFFERED_BY_DRA, offers.devices)


def _slow(look: LookTime) -> Problem:
    text = f"the driver answers slowly: a health check of {look.uuid} took {look.seconds:.1f} s"
    return Problem(ProblemKind.SLOW_DRIVER, text)
