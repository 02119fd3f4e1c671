"""Makes the samples of all metrics from a snapshot."""

import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proto.control import ServiceState
from proto.driver import DriverState
from proto.fitness import Fitness
from proto.messages import DeviceState, Gpu, Health, NodeState, WorkerState, XidCount
from supervisor.exporter import mps_metrics, usage_metrics
from supervisor.exporter.family import Sample
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About


@dataclass(frozen=True, slots=True)
class Usage:
    """Memory and CPU time of a process."""

    resident_bytes: int
    cpu_seconds: float


def samples(
    snapshot: Snapshot, about: About, usage: Mapping[str, Usage], now: float, wall: float
) -> Iterator[Sample]:
    """Yield all samples at *now*, which is *wall* as unix time; *usage* is by process name."""
    service, node = snapshot.service, snapshot.node
    driver = node.inventory.driver_version if node else ""
    kind = known.kind if (known := snapshot.platform()) else ""
    build = (about.version, platform.python_version(), driver, about.backend or "", kind)
    yield Sample("build_info", 1, build)
    if service:
        yield from _service(service)
    for kind in sorted({problem.kind for problem in snapshot.problems() or ()}):
        yield Sample("node_problem", 1, (kind,))
    for process, used in usage.items():
        yield Sample("process_resident_memory_bytes", used.resident_bytes, (process,))
        yield Sample("process_cpu_seconds", used.cpu_seconds, (process,))
    if about.watches_gpus and not snapshot.nothing_to_serve:
        heard = node is not None and now - snapshot.node_at <= about.stale_after
        yield from _sources(snapshot, heard=heard)
    if node:
        heartbeat = wall - (now - snapshot.node_at)
        yield Sample("health_monitor_last_heartbeat_timestamp_seconds", heartbeat)
        yield from _node(node, snapshot.fitness(now, about.stale_after))
    workers = [word[0] for word in snapshot.planned_workers().values() if word]
    for worker in workers:
        yield from _worker(worker)
    if snapshot.allocations is not None:
        yield from _allocations(snapshot.allocations, workers, named=about.pod_labels)
    yield from _through_dra(snapshot)
    yield from usage_metrics.samples(snapshot, now, about.stale_after, named=about.pod_labels)
    yield from mps_metrics.samples(snapshot, now, about.stale_after)


def _sources(snapshot: Snapshot, *, heard: bool) -> Iterator[Sample]:
    """Yield whether those answer who tell of GPUs: the monitor, *heard* lately, and the kubelet."""
    quiesced = snapshot.service is not None and snapshot.service.quiesced
    yield Sample("health_monitor_up", heard and not quiesced)
    yield Sample("pod_resources_up", snapshot.allocations is not None)


def _service(service: ServiceState) -> Iterator[Sample]:
    for process in service.processes:
        yield Sample("process_up", process.pid > 0, (process.name,))
        yield Sample("process_restarts", process.restarts, (process.name,))
    for state in DriverState if service.driver else ():
        yield Sample("driver_state", state is service.driver, (state,))
    yield Sample("maintenance", service.quiesced)
    yield Sample("nvml_hangs", service.hangs)
    configuration = service.configuration
    yield Sample("config_info", 1, (configuration.hash,))
    yield Sample("config_last_reload_successful", not configuration.problem)
    yield Sample("config_last_reload_success_timestamp_seconds", configuration.loaded)
    if service.labels:
        yield Sample("node_labels_written", not service.labels.reason, (service.labels.output,))


def _node(node: NodeState, fitness: Fitness) -> Iterator[Sample]:
    yield Sample("health_state_persisted", node.persisted)
    yield Sample("kernel_log_readable", node.kernel_log_lost is not None)
    yield Sample("kernel_log_lost_records", node.kernel_log_lost or 0)
    yield Sample("passthrough_gpus", len(node.inventory.passed))
    for gpu in node.inventory.gpus:
        yield from _gpu(gpu)
        for uuid in (gpu.uuid, *(instance.uuid for instance in gpu.instances)):
            yield from _device(uuid, fitness)
    yield from _other_faults(node)
    for look in node.looks:
        yield Sample("look_duration_seconds", look.seconds, (look.uuid,))
    for hang in node.hanging:
        place = "" if hang.index is None else str(hang.index)
        yield Sample("nvml_hanging_call_seconds", hang.seconds, (hang.uuid, place, hang.call))
    for xid in node.xids:
        yield from _xid(xid)
    for call in node.calls:
        yield Sample(
            "nvml_call_duration_seconds", call.seconds, (call.call,), observations=call.count
        )
        for code, count in call.errors.items():
            yield Sample("nvml_errors", count, (call.call, str(code)))


def _other_faults(node: NodeState) -> Iterator[Sample]:
    for sxid in node.sxids:
        labels = (sxid.switch, str(sxid.sxid), "true" if sxid.fatal else "false")
        yield Sample("sxid_errors", sxid.count, labels)
    for failure in node.grey:
        yield Sample("device_grey_failure", 1, (failure.uuid, failure.reason.kind))


def _xid(xid: XidCount) -> Iterator[Sample]:
    labels = (xid.uuid, str(xid.xid))
    yield Sample("xid_errors", xid.count, labels)
    yield Sample("xid_last_timestamp_seconds", xid.last, labels)
    for source, count in sorted(xid.sources.items()):
        yield Sample("xid_reports", count, (*labels, source))


def _gpu(gpu: Gpu) -> Iterator[Sample]:
    numa = "" if gpu.numa_node is None else str(gpu.numa_node)
    mig = "on" if gpu.mig_enabled else "off"
    monitoring = "events" if gpu.events else "polling"
    labels = (gpu.uuid, str(gpu.index), gpu.pci_bus_id, gpu.name, numa, mig, monitoring)
    yield Sample("device_info", 1, labels)
    for instance in gpu.instances:
        yield Sample(
            "mig_device_info",
            1,
            (instance.uuid, gpu.uuid, str(instance.gi), str(instance.ci), instance.profile),
        )


def _device(uuid: str, fitness: Fitness) -> Iterator[Sample]:
    kinds = {reason.kind for reason in fitness.reasons(uuid)}
    yield Sample("device_healthy", not kinds, (uuid,))
    for state in DeviceState:
        yield Sample("device_health_state", state is fitness.state(uuid), (uuid, state))
    for kind in sorted(kinds):
        yield Sample("device_unhealthy_reason", 1, (uuid, kind))
    device = fitness.devices.get(uuid)
    if device is None:
        return
    if device.since:
        yield Sample("device_state_since_timestamp_seconds", device.since, (uuid,))
    yield Sample("device_health_transitions", device.transitions, (uuid,))
    if device.recovery_action is not None:
        yield Sample("gpu_recovery_action", device.recovery_action, (uuid,))
    if device.licensed is not None:
        yield Sample("device_licensed", device.licensed, (uuid,))


def _worker(worker: WorkerState) -> Iterator[Sample]:
    resource = worker.resource
    yield Sample("devices", worker.healthy, (resource, Health.HEALTHY))
    yield Sample("devices", worker.unhealthy, (resource, Health.UNHEALTHY))
    for uuid, count in worker.replicas.items():
        yield Sample("replicas", count, (resource, uuid))
    yield Sample("registered", worker.registered, (resource,))
    yield Sample("registrations", worker.registrations, (resource,))
    yield Sample("list_and_watch_streams", worker.streams, (resource,))
    yield Sample("list_size_bytes", worker.list_bytes, (resource,))
    for rpc in worker.rpcs:
        labels = (resource, rpc.method)
        yield Sample("rpc_duration_seconds", rpc.seconds, labels, buckets=rpc.buckets)
        for code, count in rpc.errors.items():
            yield Sample("rpc_errors", count, (resource, rpc.method, code))


def _through_dra(snapshot: Snapshot) -> Iterator[Sample]:
    for uuid, holds in snapshot.booked_twice().items():
        held = [hold.device for hold in holds]
        holders = {
            (device.driver, device.namespace, device.pod, device.container) for device in held
        }
        for driver, count in Counter(driver for driver, *_ in holders).items():
            yield Sample("device_dra_holders", count, (uuid, driver))


def _allocations(
    allocations: tuple[Allocation, ...], workers: list[WorkerState], *, named: bool
) -> Iterator[Sample]:
    counts = Counter((device.resource, device.uuid) for device in allocations)
    known = {(worker.resource, uuid) for worker in workers for uuid in worker.replicas}
    for resource, uuid in sorted(known | counts.keys()):
        yield Sample("devices_allocated", counts[resource, uuid], (resource, uuid))
    # Without duplicates: foreign IDs such as "x::" beside "x" would make the scrape invalid.
    holders = dict.fromkeys(
        (held.resource, held.uuid, held.replica, held.namespace, held.pod, held.container)
        for held in (allocations if named else ())
    )
    for labels in holders:
        yield Sample("allocation_info", 1, labels)
