"""The metrics, rendered from the newest snapshot: a series lives exactly as long as its subject."""

import platform
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proto.messages import Health, NodeState, WorkerState
from supervisor.snapshot import Snapshot


class SnapshotCollector(Collector):
    """Makes metrics of what `source` returns at the time of the scrape."""

    def __init__(self, source: Callable[[], Snapshot], version: str) -> None:
        self._source = source
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Yield every metric of the current snapshot."""
        snapshot = self._source()
        yield self._build_info(snapshot)
        yield _restarts(snapshot)
        yield _problems(snapshot)
        words = snapshot.planned_workers().values()
        workers = [word[0] for word in words if word]
        yield _devices(workers)
        yield _registrations(workers)
        if snapshot.node:
            yield from _node(snapshot.node)

    def _build_info(self, snapshot: Snapshot) -> Metric:
        driver = snapshot.node.inventory.driver_version if snapshot.node else ""
        labels = {
            "version": self._version,
            "python": platform.python_version(),
            "driver_version": driver,
        }
        family = GaugeMetricFamily(
            "gpu_sharing_build_info", "What runs here; always 1.", labels=list(labels)
        )
        family.add_metric(list(labels.values()), 1)
        return family


def _restarts(snapshot: Snapshot) -> Metric:
    family = CounterMetricFamily(
        "gpu_sharing_process_restarts",
        "Starts of a child process after its first.",
        labels=["process"],
    )
    for process in snapshot.service.processes if snapshot.service else ():
        family.add_metric([process.name], process.restarts)
    return family


def _problems(snapshot: Snapshot) -> Metric:
    family = GaugeMetricFamily(
        "gpu_sharing_node_problem",
        "1 while the node cannot be served as configured; the log and /readyz say more.",
        labels=["problem"],
    )
    for kind in {problem.kind for problem in snapshot.service.problems} if snapshot.service else ():
        family.add_metric([kind], 1)
    return family


def _devices(workers: list[WorkerState]) -> Metric:
    family = GaugeMetricFamily(
        "gpu_sharing_devices",
        "Devices advertised to the kubelet, replicas counted.",
        labels=["resource", "health"],
    )
    for worker in workers:
        family.add_metric([worker.resource, Health.HEALTHY], worker.healthy)
        family.add_metric([worker.resource, Health.UNHEALTHY], worker.unhealthy)
    return family


def _registrations(workers: list[WorkerState]) -> Metric:
    family = CounterMetricFamily(
        "gpu_sharing_registrations",
        "Registrations with the kubelet since the start of the resource's worker.",
        labels=["resource"],
    )
    for worker in workers:
        family.add_metric([worker.resource], worker.registrations)
    return family


def _node(node: NodeState) -> Iterator[Metric]:
    """Yield what is known of the GPUs and MIG instances themselves."""
    info = GaugeMetricFamily(
        "gpu_sharing_device_info",
        "A GPU; always 1.",
        labels=["uuid", "index", "pci_bus_id", "model", "numa_node", "mig"],
    )
    for gpu in node.inventory.gpus:
        numa = "" if gpu.numa_node is None else str(gpu.numa_node)
        mig = "on" if gpu.mig_enabled else "off"
        info.add_metric([gpu.uuid, str(gpu.index), gpu.pci_bus_id, gpu.name, numa, mig], 1)
    yield info
    healthy = GaugeMetricFamily(
        "gpu_sharing_device_healthy",
        "1 while a GPU or MIG instance is fit to be handed out, else 0.",
        labels=["uuid"],
    )
    reasons = GaugeMetricFamily(
        "gpu_sharing_device_unhealthy_reason",
        "1 for each reason why a GPU or MIG instance is not handed out.",
        labels=["uuid", "reason"],
    )
    for device in node.health:
        healthy.add_metric([device.uuid], not device.reasons)
        for kind in sorted({reason.kind for reason in device.reasons}):
            reasons.add_metric([device.uuid, kind], 1)
    yield healthy
    yield reasons
    xids = CounterMetricFamily(
        "gpu_sharing_xid_errors",
        "Xids since the monitor's start, harmless ones included; no UUID: on an unknown GPU.",
        labels=["uuid", "xid"],
    )
    for count in node.xids:
        xids.add_metric([count.uuid, str(count.xid)], count.count)
    yield xids
