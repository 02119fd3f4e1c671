"""The table of all metrics, and how samples become metrics of prometheus_client.

Each scrape is made from one snapshot, so a series ends when its device or resource is gone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from proto.messages import RPC_BUCKETS
from supervisor.exporter import mps_metrics, usage_metrics
from supervisor.exporter.family import PREFIX, Family, Sample

FAMILIES = (
    Family(
        "build_info",
        ("version", "python", "driver_version", "backend", "platform"),
        "Versions of the plugin, Python and the driver, where GPU data comes from, and the node's "
        "platform; always 1.",
    ),
    Family(
        "device_info",
        ("uuid", "index", "pci_bus_id", "model", "numa_node", "mig", "monitoring"),
        "A GPU; always 1. monitoring: events, or polling if the GPU cannot report Xids.",
    ),
    Family(
        "mig_device_info",
        ("uuid", "gpu_uuid", "gpu_instance_id", "compute_instance_id", "profile"),
        "A MIG instance; always 1.",
    ),
    Family(
        "device_healthy",
        ("uuid",),
        "1 while a GPU or MIG instance can be allocated, else 0.",
    ),
    Family(
        "device_health_state",
        ("uuid", "state"),
        "1 for the current state of a GPU or MIG instance, 0 for the other states.",
    ),
    Family(
        "device_unhealthy_reason",
        ("uuid", "reason"),
        "1 for each reason why a GPU or MIG instance is Unhealthy.",
    ),
    Family(
        "device_grey_failure",
        ("uuid", "reason"),
        "1 for each grey failure of a GPU: it works, but worse than it should.",
    ),
    Family(
        "device_state_since_timestamp_seconds",
        ("uuid",),
        "Unix time when a GPU or MIG instance entered its state; absent if it never changed.",
    ),
    Family(
        "device_health_transitions",
        ("uuid",),
        "State changes of a GPU or MIG instance since the node booted.",
        "counter",
    ),
    Family(
        "gpu_recovery_action",
        ("uuid",),
        "Recovery that the driver asks for (NVML field 230), 0: none; absent if not supported.",
    ),
    Family(
        "device_licensed",
        ("uuid",),
        "1 if a virtual GPU (vGPU) has its licence, else 0; absent for GPUs that need none.",
    ),
    Family(
        "passthrough_gpus",
        (),
        "GPUs that the kernel has given to another driver, for virtual machines.",
    ),
    Family(
        "xid_errors",
        ("uuid", "xid"),
        "Xids since the health monitor started, harmless ones too; empty uuid: GPU unknown.",
        "counter",
    ),
    Family(
        "xid_reports",
        ("uuid", "xid", "source"),
        "The same Xids by who told of them: nvml, kernel (the kernel log) or both; 2 s later.",
        "counter",
    ),
    Family(
        "sxid_errors",
        ("switch", "sxid", "fatal"),
        "Errors of NVSwitches (SXids) in the kernel log since the health monitor started.",
        "counter",
    ),
    Family("kernel_log_readable", (), "1 if the health monitor reads the kernel log, else 0."),
    Family(
        "kernel_log_lost_records",
        (),
        "Records of the kernel log that were overwritten before they were read.",
        "counter",
    ),
    Family(
        "xid_last_timestamp_seconds", ("uuid", "xid"), "Unix time of the last Xid of this kind."
    ),
    Family(
        "devices",
        ("resource", "health"),
        "Devices advertised to the kubelet by health; each replica counts.",
    ),
    Family("replicas", ("resource", "uuid"), "Devices advertised per GPU or MIG instance."),
    Family(
        "devices_allocated",
        ("resource", "uuid"),
        "Devices of a GPU or MIG instance that containers hold, from the kubelet.",
    ),
    Family(
        "allocation_info",
        ("resource", "uuid", "replica", "namespace", "pod", "container"),
        "A device that a container holds; always 1.",
    ),
    Family(
        "device_dra_holders",
        ("uuid", "driver"),
        "Containers that hold an advertised GPU or MIG instance through DRA, by DRA driver.",
    ),
    Family("pod_resources_up", (), "1 while the kubelet's pod resources API answers, else 0."),
    Family(
        "rpc_duration_seconds",
        ("resource", "method"),
        "Duration of the kubelet's calls to the device plugin API, except ListAndWatch.",
        "histogram",
    ),
    Family(
        "rpc_errors",
        ("resource", "method", "code"),
        "Calls to the device plugin API that failed, by gRPC status code.",
        "counter",
    ),
    Family(
        "registered", ("resource",), "1 while a resource is registered with the kubelet, else 0."
    ),
    Family(
        "registrations",
        ("resource",),
        "Registrations with the kubelet since the worker of the resource started.",
        "counter",
    ),
    Family(
        "list_and_watch_streams",
        ("resource",),
        "Open ListAndWatch streams; without a stream the kubelet does not know the devices.",
    ),
    Family(
        "list_size_bytes",
        ("resource",),
        "Size of the newest device list; the kubelet accepts up to 4 MiB.",
    ),
    Family(
        "health_monitor_up", (), "1 while the health monitor reports the state of the GPUs, else 0."
    ),
    Family(
        "health_monitor_last_heartbeat_timestamp_seconds",
        (),
        "Unix time of the last report of the health monitor.",
    ),
    Family(
        "nvml_call_duration_seconds",
        ("call",),
        "Duration of NVML calls, except the wait for events.",
        "summary",
    ),
    Family(
        "nvml_errors",
        ("call", "code"),
        "NVML calls that failed, by NVML error code, except for unsupported features.",
        "counter",
    ),
    Family(
        "nvml_hangs",
        (),
        "NVML calls that did not return within health.hangAfter, since the service started.",
        "counter",
    ),
    Family(
        "nvml_hanging_call_seconds",
        ("uuid", "index", "call"),
        "How long an NVML call has not returned; absent while none hangs. Empty uuid: GPU unknown.",
    ),
    Family(
        "look_duration_seconds",
        ("uuid",),
        "Duration of the newest health check of a GPU.",
    ),
    Family(
        "health_state_persisted",
        (),
        "1 while faults are saved in the state folder, else 0: a restart would forget them.",
    ),
    Family("process_up", ("process",), "1 while a process of the service runs, else 0."),
    Family(
        "process_restarts",
        ("process",),
        "Restarts of a child process.",
        "counter",
    ),
    Family(
        "process_resident_memory_bytes", ("process",), "Resident memory, including shared pages."
    ),
    Family("process_cpu_seconds", ("process",), "CPU time.", "counter"),
    Family(
        "node_problem",
        ("problem",),
        "1 for each reason why the node is not served as configured, or slowly; see /status.",
    ),
    Family(
        "driver_state",
        ("state",),
        "1 for the current state of NVIDIA's driver on the node, 0 for the other states.",
    ),
    Family("maintenance", (), "1 while the service is quiesced, else 0."),
    Family("config_info", ("hash",), "Hash of the configuration in use; always 1."),
    Family(
        "config_last_reload_successful",
        (),
        "1 if the newest configuration is in use, 0 if it was refused.",
    ),
    Family(
        "config_last_reload_success_timestamp_seconds",
        (),
        "Unix time when the configuration in use was loaded.",
    ),
    Family(
        "node_labels_written",
        ("output",),
        "1 if the node's labels are written, 0 if the last attempt failed.",
    ),
    *usage_metrics.FAMILIES,
    *mps_metrics.FAMILIES,
)


def by_family(samples: Iterable[Sample]) -> Iterator[tuple[Family, list[Sample]]]:
    """Yield every family with its samples, also without any."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.name].append(sample)
    for family in FAMILIES:
        yield family, found.pop(family.name, [])
    if found:
        raise AssertionError(f"cannot happen: metrics without a description: {[*found]}")


def metric(family: Family, samples: list[Sample]) -> Metric:
    """Return a family with its samples as prometheus_client has it."""
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
                summary.add_metric(sample.labels, sample.observations, sample.value)
            return summary
        case kind:
            make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            plain = make(name, family.help, labels=family.labels)
            for sample in samples:
                plain.add_metric(sample.labels, sample.value)
            return plain
