"""The metrics: what there is, and its exposition from the newest snapshot.

All of a scrape is made of one snapshot, so a series lives exactly as long as its subject.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from proto.messages import RPC_BUCKETS
from supervisor.exporter.samples import Sample

PREFIX = "gpu_sharing_"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric, without the prefix that all have."""

    name: str
    labels: tuple[str, ...]
    help: str
    kind: str = "gauge"

    @property
    def full_name(self) -> str:
        """The name as queries use it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


FAMILIES = (
    Family(
        "build_info",
        ("version", "python", "driver_version", "backend"),
        "What runs here; always 1.",
    ),
    Family(
        "device_info",
        ("uuid", "index", "pci_bus_id", "model", "numa_node", "mig", "monitoring"),
        "A GPU; always 1. Its Xids come as events, or it is only polled.",
    ),
    Family(
        "mig_device_info",
        ("uuid", "gpu_uuid", "gpu_instance_id", "compute_instance_id", "profile"),
        "A MIG instance; always 1.",
    ),
    Family(
        "device_healthy",
        ("uuid",),
        "1 while a GPU or MIG instance is fit to be handed out, else 0.",
    ),
    Family(
        "device_health_state",
        ("uuid", "state"),
        "1 for the state that a GPU or MIG instance is in, 0 for the others.",
    ),
    Family(
        "device_unhealthy_reason",
        ("uuid", "reason"),
        "1 for each reason why a GPU or MIG instance is not handed out.",
    ),
    Family(
        "device_state_since_timestamp_seconds",
        ("uuid",),
        "When a GPU or MIG instance came into its state; absent if it was always in it.",
    ),
    Family(
        "device_health_transitions",
        ("uuid",),
        "Changes of the state of a GPU or MIG instance since the node's boot.",
        "counter",
    ),
    Family(
        "gpu_recovery_action",
        ("uuid",),
        "The recovery that the driver asks for (NVML field 230), 0 for none; absent if untold.",
    ),
    Family(
        "xid_errors",
        ("uuid", "xid"),
        "Xids since the monitor's start, harmless ones included; no UUID: on an unknown GPU.",
        "counter",
    ),
    Family("xid_last_timestamp_seconds", ("uuid", "xid"), "When an Xid was seen last."),
    Family(
        "devices",
        ("resource", "health"),
        "Devices advertised to the kubelet, replicas counted.",
    ),
    Family("replicas", ("resource", "uuid"), "Devices that are advertised of a GPU or instance."),
    Family(
        "devices_allocated",
        ("resource", "uuid"),
        "Devices of a GPU or instance that containers hold, as the kubelet tells.",
    ),
    Family(
        "allocation_info",
        ("resource", "uuid", "replica", "namespace", "pod", "container"),
        "A device that a container holds; always 1.",
    ),
    Family("pod_resources_up", (), "1 while the kubelet's pod resources API answers, else 0."),
    Family(
        "rpc_duration_seconds",
        ("resource", "method"),
        "Calls of the device plugin API by the kubelet, ListAndWatch aside.",
        "histogram",
    ),
    Family(
        "rpc_errors",
        ("resource", "method", "code"),
        "Calls of the device plugin API that ended in an error.",
        "counter",
    ),
    Family("registered", ("resource",), "1 while a resource is registered with this kubelet."),
    Family(
        "registrations",
        ("resource",),
        "Registrations with the kubelet since the start of the resource's worker.",
        "counter",
    ),
    Family(
        "list_and_watch_streams",
        ("resource",),
        "Open ListAndWatch streams; without one the kubelet does not know the devices.",
    ),
    Family(
        "list_size_bytes",
        ("resource",),
        "Size of the newest device list; the kubelet takes 4 MiB.",
    ),
    Family("health_monitor_up", (), "1 while the health monitor tells how the node is, else 0."),
    Family(
        "health_monitor_last_heartbeat_timestamp_seconds", (), "When the health monitor spoke last."
    ),
    Family(
        "nvml_call_duration_seconds",
        ("call",),
        "Calls of the driver's library, the wait for events aside.",
        "summary",
    ),
    Family(
        "nvml_errors",
        ("call", "code"),
        "Calls of the driver's library that failed, other than for what a GPU does not support.",
        "counter",
    ),
    Family("nvml_hangs", (), "Monitors that were killed as the driver held them up.", "counter"),
    Family(
        "health_state_persisted",
        (),
        "1 while the state folder takes what is known of devices; at 0 a restart would forget it.",
    ),
    Family("process_up", ("process",), "1 while a process of the service runs, else 0."),
    Family(
        "process_restarts",
        ("process",),
        "Starts of a child process after its first.",
        "counter",
    ),
    Family("process_resident_memory_bytes", ("process",), "Resident memory, shared pages too."),
    Family("process_cpu_seconds", ("process",), "Processor time.", "counter"),
    Family(
        "node_problem",
        ("problem",),
        "1 while the node cannot be served as configured; the log and /readyz say more.",
    ),
    Family("maintenance", (), "1 while the service is quiesced, else 0."),
    Family("config_info", ("hash",), "The configuration in effect; always 1."),
    Family(
        "config_last_reload_successful",
        (),
        "1 if the newest configuration is in effect, 0 if it was refused.",
    ),
    Family(
        "config_last_reload_success_timestamp_seconds",
        (),
        "When the configuration in effect was taken.",
    ),
)


class SampleCollector(Collector):
    """Makes metrics of what *source* yields at the time of the scrape."""

    def __init__(self, source: Callable[[], Iterable[Sample]]) -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Yield every metric, also those without a sample."""
        found: dict[str, list[Sample]] = defaultdict(list)
        for sample in self._source():
            found[sample.name].append(sample)
        for family in FAMILIES:
            yield _metric(family, found.pop(family.name, []))
        if found:
            raise AssertionError(f"cannot happen: metrics without a description: {[*found]}")


def _metric(family: Family, samples: list[Sample]) -> Metric:
    name = PREFIX + family.name
    match family.kind:
        case "histogram":
            histogram = HistogramMetricFamily(name, family.help, labels=family.labels)
            bounds = [*map(str, RPC_BUCKETS), "+Inf"]
            for sample in samples:
                buckets = list(zip(bounds, sample.buckets, strict=True))
                histogram.add_metric(sample.labels, buckets, sample.value)
            return histogram
        case "summary":
            summary = SummaryMetricFamily(name, family.help, labels=family.labels)
            for sample in samples:
                summary.add_metric(sample.labels, sample.count, sample.value)
            return summary
        case kind:
            make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            plain = make(name, family.help, labels=family.labels)
            for sample in samples:
                plain.add_metric(sample.labels, sample.value)
            return plain
