"""Makes the status, for people and scripts, from what the exporter knows."""

from dataclasses import dataclass

from health import xid_catalogue
from proto.control import ServiceState
from proto.messages import NodeState, WorkerState, XidCount
from supervisor.status import gpus as gpu_status
from supervisor.status import mps, node_report, report
from supervisor.status.probes import not_live, not_ready
from supervisor.status.service_report import ConfigurationStatus, ProcessStatus, XidSeen
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage import device_uses, node_use


@dataclass(frozen=True, slots=True)
class About:
    """Settings of the exporter that the status needs."""

    version: str
    stale_after: float
    """Seconds after which a sender counts as silent."""
    backend: str | None = None
    """Where the GPU data comes from: `nvml` or `simulated`."""
    pod_labels: bool = True
    """Whether metrics have the names of pods that hold devices."""
    watches_gpus: bool = True
    """Whether this service has a health monitor, and asks the kubelet who holds devices."""
    node: str = ""
    """The node's name in Kubernetes; empty: it was not given."""
    hostname: str = ""


def status(snapshot: Snapshot, about: About, now: float, wall: float) -> report.Status:
    """Return the status from *snapshot* at *now*, which is *wall* as unix time."""
    heard_from = now - about.stale_after
    dead = tuple(not_live(snapshot, now, about.stale_after))
    unready = tuple(not_ready(snapshot, now, about.stale_after))
    known = gpu_status.Facts(
        snapshot.fitness(now, about.stale_after),
        device_uses(snapshot, now, about.stale_after),
        mps.statuses(snapshot, now, about.stale_after),
        gpu_status.dra_holders(snapshot),
    )
    gpus = gpu_status.gpus(snapshot, known)
    resources = _resources(snapshot, heard_from)
    failed = snapshot.node.inventory.failed if snapshot.node else None
    well = not (dead or unready or failed) and _all_healthy(gpus, resources)
    return report.Status(
        time=wall,
        version=about.version,
        ok=well,
        node=_node(snapshot, about, dead, unready),
        gpus=gpus,
        strays=gpu_status.strays(snapshot),
        resources=resources,
        processes=_processes(snapshot.service),
        configuration=_configuration(snapshot.service),
        xids=tuple(map(_xid, snapshot.node.xids)) if snapshot.node else None,
        usage=node_use(snapshot, now, wall, about.stale_after),
    )


def _all_healthy(
    gpus: tuple[report.GpuStatus, ...] | None, resources: tuple[report.ResourceStatus, ...] | None
) -> bool:
    """Return whether every device is healthy, including planned devices that are gone."""
    if gpus is None or resources is None:
        return False
    devices = (device for gpu in gpus for device in (gpu, *gpu.instances))
    return all(device.healthy for device in devices) and not any(r.unhealthy for r in resources)


def _node(
    snapshot: Snapshot, about: About, dead: tuple[str, ...], unready: tuple[str, ...]
) -> node_report.NodeStatus:
    node, service, platform = snapshot.node, snapshot.service, snapshot.platform()
    return node_report.NodeStatus(
        driver_version=node.inventory.driver_version or None if node else None,
        backend=about.backend,
        platform=platform.kind if platform else None,
        platform_evidence=platform.evidence if platform else None,
        maintenance=service.quiesced if service else None,
        live=node_report.Verdict(not dead, dead),
        ready=node_report.Verdict(not unready, unready),
        problems=_problems(snapshot),
        passthrough=_passed(node),
        failed=_failed(node),
        persisted=node.persisted if node else None,
        driver_hangs=service.hangs if service else None,
        hanging=_hanging(node),
        notices=service.notices if service else None,
        name=about.node or None,
        hostname=about.hostname or None,
    )


def _problems(snapshot: Snapshot) -> tuple[node_report.ProblemStatus, ...] | None:
    problems = snapshot.problems()
    if problems is None:
        return None
    return tuple(node_report.ProblemStatus(p.kind, p.text, p.fatal) for p in problems)


def _hanging(node: NodeState | None) -> tuple[node_report.HangingCallStatus, ...] | None:
    if node is None:
        return None
    return tuple(
        node_report.HangingCallStatus(hang.call, hang.index, hang.uuid or None, hang.seconds)
        for hang in node.hanging
    )


def _passed(node: NodeState | None) -> tuple[node_report.PassedGpu, ...] | None:
    if node is None:
        return None
    given = sorted(node.inventory.passed.items())
    return tuple(node_report.PassedGpu(address, driver) for address, driver in given)


def _failed(node: NodeState | None) -> tuple[node_report.FailedGpuStatus, ...] | None:
    if node is None:
        return None
    return tuple(node_report.FailedGpuStatus(gpu.index, gpu.error) for gpu in node.inventory.failed)


def _resources(snapshot: Snapshot, heard_from: float) -> tuple[report.ResourceStatus, ...] | None:
    """Return the planned resources; ignore worker states that are older than *heard_from*."""
    if snapshot.service is None or snapshot.service.planned is None:
        return None
    return tuple(
        _resource(resource, snapshot, word[0] if word and word[1] >= heard_from else None)
        for resource, word in snapshot.planned_workers().items()
    )


def _resource(
    resource: str, snapshot: Snapshot, worker: WorkerState | None
) -> report.ResourceStatus:
    allocated = gpu_status.used(snapshot.allocations, resource)
    if worker is None:
        return report.ResourceStatus(name=resource, allocated=allocated)
    return report.ResourceStatus(
        name=resource,
        devices=worker.healthy + worker.unhealthy,
        healthy=worker.healthy,
        unhealthy=worker.unhealthy,
        allocated=allocated,
        registered=worker.registered,
        registrations=worker.registrations,
        streams=worker.streams,
        answering=worker.answering,
        sharing=_sharing(worker, snapshot),
    )


def _sharing(worker: WorkerState, snapshot: Snapshot) -> report.SharingKind:
    if worker.replicas.keys() & snapshot.mps_shares().keys():
        return report.SharingKind.MPS
    shared = any(count > 1 for count in worker.replicas.values())
    return report.SharingKind.TIME_SLICING if shared else report.SharingKind.NONE


def _processes(service: ServiceState | None) -> tuple[ProcessStatus, ...] | None:
    if service is None:
        return None
    return tuple(
        ProcessStatus(child.name, child.state, child.restarts, child.pid or None)
        for child in service.processes
    )


def _configuration(service: ServiceState | None) -> ConfigurationStatus | None:
    if service is None:
        return None
    state = service.configuration
    return ConfigurationStatus(state.hash or None, state.loaded or None, state.problem or None)


def _xid(seen: XidCount) -> XidSeen:
    name = xid_catalogue.lookup(seen.xid).name
    return XidSeen(seen.uuid or None, seen.xid, name, seen.count, seen.last or None)
