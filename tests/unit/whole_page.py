"""A node with a series for every metric, and the samples expected of it."""

import platform

import msgspec

from proto.calls import CallStats, HangingCall, LookTime
from proto.control import ConfigurationState, NodeLabels, ProcessState, ServiceState
from proto.driver import DriverState
from proto.fitness import LastMpsWord
from proto.grey import GreyFailure
from proto.messages import (
    RPC_BUCKETS,
    DeviceHealth,
    DeviceState,
    MpsState,
    NodeState,
    RpcStats,
    UsageState,
    XidCount,
)
from proto.mps import MpsClient, MpsDaemon, MpsShare, Phase, ServerStatus
from proto.platform import Platform, PlatformKind
from proto.problem import Problem, ProblemKind
from proto.reasons import Reason, ReasonKind
from proto.sxids import SXidCount
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from supervisor.status.allocations import Allocation, DynamicDevice
from supervisor.status.snapshot import KnownUsage, Snapshot
from supervisor.status.usage_owner import HOST, Owner, OwnerKind, Owners
from tests.unit.builders import gpu, inventory, mig_gpu, mig_uuid, worker_state

GPU = "nvidia.com/gpu"
NOW, WALL = 1000.0, 1_800_000_000.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the key of a sample in EXPECTED: its name and labels."""
    return name, frozenset(labels.items())


PROBLEMS = (
    Problem(ProblemKind.LIST_TOO_LONG, "a"),
    Problem(ProblemKind.LIST_TOO_LONG, "b"),
    Problem(ProblemKind.MIG_EMPTY, "c"),
)
SHARE = MpsShare(10240, 25)
SERVICE = ServiceState(
    processes=(ProcessState("monitor", "running", 2, 77), ProcessState("exporter", "down", 0)),
    planned=(GPU,),
    problems=PROBLEMS,
    hangs=3,
    mps={"A": SHARE},
    configuration=ConfigurationState("0123456789ab", loaded=123.0, problem="no good"),
    labels=NodeLabels("node", "no right"),
    driver=DriverState.LOADED,
)
NODE = NodeState(
    epoch=1,
    sequence=1,
    inventory=msgspec.structs.replace(
        inventory(gpu(0, uuid="A", numa_node=1), mig_gpu(1, "1g.10gb", uuid="B", events=False)),
        platform=Platform(PlatformKind.NVML, ("libnvidia-ml.so.1",)),
    ),
    health=(
        DeviceHealth("A", since=5.0, transitions=4, recovery_action=0, licensed=True),
        DeviceHealth(
            "B",
            (Reason(ReasonKind.XID, "48"), Reason(ReasonKind.XID, "79")),
            DeviceState.RECOVERING,
        ),
        DeviceHealth(
            mig_uuid(1, 0),
            (
                Reason(ReasonKind.DRIVER_HANG, "a call"),
                Reason(ReasonKind.XID, "48"),
                Reason(ReasonKind.XID, "79"),
            ),
            DeviceState.UNHEALTHY,
        ),
    ),
    xids=(
        XidCount("B", 79, 2, last=99.0, sources={"both": 1, "kernel": 1}),
        XidCount("", 31, 1, last=98.0),
    ),
    kernel_log_lost=7,
    sxids=(SXidCount("0000:c3:00.0", 12028, fatal=False, count=4),),
    grey=(GreyFailure("A", Reason(ReasonKind.PCIE, "x8 instead of x16")),),
    calls=(CallStats("nvmlInit", 2, 0.5, {999: 1}),),
    hanging=(
        HangingCall("nvmlDeviceGetName", 7, "", 17.5),
        HangingCall("nvmlInit", None, "", 16.0),
    ),
    looks=(LookTime("A", 0.25), LookTime("B", 0.75, slow=True)),
    persisted=False,
)
RPC = RpcStats("Allocate", (1, 2, *[3] * (len(RPC_BUCKETS) - 1)), 0.25, {"UNKNOWN": 1})
WORKER = worker_state(
    GPU,
    healthy=7,
    unhealthy=1,
    registrations=3,
    replicas={"A": 4, mig_uuid(1, 0): 1},
    list_bytes=900,
    rpcs=(RPC,),
)
HELD = Allocation(GPU, "A::2", "space", "pod", "main")
OWNER = Owner(OwnerKind.CONTAINER, "space", "pod", "main")
PROCESSES = tuple(
    GpuProcess(pid, ProcessKind.COMPUTE, memory, 25)
    for pid, memory in {1: 100, 2: 200, 3: 400, 4: 800, 5: 1600, 6: 3200}.items()
)
OWNERS = {
    ("A", 1): OWNER,
    ("A", 2): OWNER,
    ("A", 3): HOST,
    ("A", 4): Owner(OwnerKind.CONTAINER, "space", "stray", "main"),
}
USAGE = UsageState(
    epoch=1,
    sequence=1,
    interval=5.0,
    devices=(
        DeviceUsage("A", 1.0, 50, 25, 3000, 8000, 0, 41, 71.5, 700.0, processes=PROCESSES),
        DeviceUsage(mig_uuid(1, 0), 1.0, memory_used=2 << 30, processes=()),
    ),
)
CLAIMED = DynamicDevice("gpu.nvidia.com", "node", "gpu-0", "space/claim", "space", "other", "main")
DAEMON = MpsDaemon(
    "A",
    Phase.READY,
    pid=60,
    server=6,
    status=ServerStatus.ACTIVE,
    clients=(MpsClient(1, "python3"), MpsClient(2)),
    share=SHARE,
    restarts=2,
)
WHOLE = Snapshot(
    SERVICE,
    NOW,
    NODE,
    {GPU: (WORKER, NOW)},
    (HELD,),
    node_at=NOW - 4.0,
    usage=KnownUsage(USAGE, NOW, Owners(OWNERS)),
    mps=LastMpsWord(NOW, MpsState(epoch=1, sequence=1, daemons=(DAEMON,))),
    dynamic=(CLAIMED,),
)

HOLDER = {
    "uuid": "A",
    "resource": GPU,
    "namespace": "space",
    "pod": "pod",
    "container": "main",
}

EXPECTED: Samples = {
    key(
        "build_info",
        version="1.2.3",
        python=platform.python_version(),
        driver_version="580.95.05",
        backend="simulated",
        platform="nvml",
    ): 1.0,
    key(
        "device_info",
        uuid="A",
        index="0",
        pci_bus_id="0000:01:00.0",
        model="NVIDIA H100 80GB HBM3",
        numa_node="1",
        mig="off",
        monitoring="events",
    ): 1.0,
    key(
        "device_info",
        uuid="B",
        index="1",
        pci_bus_id="0000:02:00.0",
        model="NVIDIA H100 80GB HBM3",
        numa_node="",
        mig="on",
        monitoring="polling",
    ): 1.0,
    key(
        "mig_device_info",
        uuid=mig_uuid(1, 0),
        gpu_uuid="B",
        gpu_instance_id="7",
        compute_instance_id="0",
        profile="1g.10gb",
    ): 1.0,
    key("device_healthy", uuid="A"): 1.0,
    key("device_healthy", uuid="B"): 0.0,
    key("device_healthy", uuid=mig_uuid(1, 0)): 0.0,
    **{
        key("device_health_state", uuid=uuid, state=state): float(state == its)
        for uuid, its in (
            ("A", "healthy"),
            ("B", "unhealthy"),  # like its MIG instance, as the GPU is allocated whole
            (mig_uuid(1, 0), "unhealthy"),
        )
        for state in DeviceState
    },
    **{
        key("device_unhealthy_reason", uuid=uuid, reason=reason): 1.0
        for uuid in ("B", mig_uuid(1, 0))
        for reason in ("driver-hang", "xid")
    },
    key("device_state_since_timestamp_seconds", uuid="A"): 5.0,
    key("device_health_transitions_total", uuid="A"): 4.0,
    key("device_health_transitions_total", uuid="B"): 0.0,
    key("device_health_transitions_total", uuid=mig_uuid(1, 0)): 0.0,
    key("sxid_errors_total", switch="0000:c3:00.0", sxid="12028", fatal="false"): 4.0,
    key("device_grey_failure", uuid="A", reason="pcie"): 1.0,
    key("gpu_recovery_action", uuid="A"): 0.0,
    key("device_licensed", uuid="A"): 1.0,
    key("passthrough_gpus"): 0.0,
    key("xid_errors_total", uuid="B", xid="79"): 2.0,
    key("xid_errors_total", uuid="", xid="31"): 1.0,
    key("xid_reports_total", uuid="B", xid="79", source="both"): 1.0,
    key("xid_reports_total", uuid="B", xid="79", source="kernel"): 1.0,
    key("kernel_log_readable"): 1.0,
    key("kernel_log_lost_records_total"): 7.0,
    key("xid_last_timestamp_seconds", uuid="B", xid="79"): 99.0,
    key("xid_last_timestamp_seconds", uuid="", xid="31"): 98.0,
    key("nvml_call_duration_seconds_count", call="nvmlInit"): 2.0,
    key("nvml_call_duration_seconds_sum", call="nvmlInit"): 0.5,
    key("nvml_errors_total", call="nvmlInit", code="999"): 1.0,
    key("nvml_hanging_call_seconds", uuid="", index="7", call="nvmlDeviceGetName"): 17.5,
    key("nvml_hanging_call_seconds", uuid="", index="", call="nvmlInit"): 16.0,
    key("look_duration_seconds", uuid="A"): 0.25,
    key("look_duration_seconds", uuid="B"): 0.75,
    key("node_problem", problem="slow-driver"): 1.0,
    key("node_problem", problem="node-labels"): 1.0,
    key("nvml_hangs_total"): 3.0,
    key("health_state_persisted"): 0.0,
    key("health_monitor_up"): 1.0,
    key("health_monitor_last_heartbeat_timestamp_seconds"): WALL - 4.0,
    key("devices", resource=GPU, health="Healthy"): 7.0,
    key("devices", resource=GPU, health="Unhealthy"): 1.0,
    key("replicas", resource=GPU, uuid="A"): 4.0,
    key("replicas", resource=GPU, uuid=mig_uuid(1, 0)): 1.0,
    key("registered", resource=GPU): 1.0,
    key("registrations_total", resource=GPU): 3.0,
    key("list_and_watch_streams", resource=GPU): 1.0,
    key("list_size_bytes", resource=GPU): 900.0,
    **{
        key("rpc_duration_seconds_bucket", resource=GPU, method="Allocate", le=bound): count
        for bound, count in zip([*map(str, RPC_BUCKETS), "+Inf"], RPC.buckets, strict=True)
    },
    key("rpc_duration_seconds_count", resource=GPU, method="Allocate"): 3.0,
    key("rpc_duration_seconds_sum", resource=GPU, method="Allocate"): 0.25,
    key("rpc_errors_total", resource=GPU, method="Allocate", code="UNKNOWN"): 1.0,
    key("pod_resources_up"): 1.0,
    key("devices_allocated", resource=GPU, uuid="A"): 1.0,
    key("devices_allocated", resource=GPU, uuid=mig_uuid(1, 0)): 0.0,
    key(
        "allocation_info",
        resource=GPU,
        uuid="A",
        replica="2",
        namespace="space",
        pod="pod",
        container="main",
    ): 1.0,
    key("process_up", process="monitor"): 1.0,
    key("process_up", process="exporter"): 0.0,
    key("process_restarts_total", process="monitor"): 2.0,
    key("process_restarts_total", process="exporter"): 0.0,
    key("process_resident_memory_bytes", process="monitor"): float(20 << 20),
    key("process_cpu_seconds_total", process="monitor"): 1.5,
    key("node_problem", problem="list-too-long"): 1.0,
    key("node_problem", problem="mig-empty"): 1.0,
    key("node_problem", problem="also-served-by-dra"): 1.0,
    key("device_dra_holders", uuid="A", driver="gpu.nvidia.com"): 1.0,
    key("maintenance"): 0.0,
    **{key("driver_state", state=state): float(state == "loaded") for state in DriverState},
    key("config_info", hash="0123456789ab"): 1.0,
    key("config_last_reload_successful"): 0.0,
    key("config_last_reload_success_timestamp_seconds"): 123.0,
    key("node_labels_written", output="node"): 0.0,
    key("usage_attributed"): 1.0,
    key("device_utilization_ratio", uuid="A"): 0.5,
    key("device_memory_utilization_ratio", uuid="A"): 0.25,
    key("device_memory_used_bytes", uuid="A"): 3000.0,
    key("device_memory_used_bytes", uuid=mig_uuid(1, 0)): float(2 << 30),
    key("device_memory_total_bytes", uuid="A"): 8000.0,
    key("device_memory_total_bytes", uuid=mig_uuid(1, 0)): float((10 * 1024 - 256) << 20),
    key("device_temperature_celsius", uuid="A"): 41.0,
    key("device_power_watts", uuid="A"): 71.5,
    key("device_power_limit_watts", uuid="A"): 700.0,
    key("device_leaked_bytes", uuid=mig_uuid(1, 0)): float(2 << 30),
    key("host_memory_used_bytes", uuid="A"): 400.0,
    key("host_memory_used_bytes", uuid=mig_uuid(1, 0)): 0.0,
    key("unknown_memory_used_bytes", uuid="A"): 1600.0,
    key("unknown_memory_used_bytes", uuid=mig_uuid(1, 0)): 0.0,
    key(
        "unallocated_memory_used_bytes",
        uuid="A",
        namespace="space",
        pod="stray",
        container="main",
    ): 800.0,
    key("container_memory_used_bytes", **HOLDER): 300.0,
    key("container_utilization_ratio", **HOLDER): 0.5,
    key("container_memory_share_bytes", **HOLDER): 2000.0,
    key("mps_server_memory_used_bytes", uuid="A"): 3200.0,
    key("mps_up"): 1.0,
    **{
        key("mps_daemon_phase", uuid="A", phase=phase): float(phase == "ready")
        for phase in ("starting", "ready", "draining", "fault", "failed")
    },
    **{
        key("mps_server_state", uuid="A", state=state): float(state == "active")
        for state in ("none", "initializing", "active", "fault")
    },
    key("mps_clients", uuid="A"): 2.0,
    key("mps_daemon_restarts_total", uuid="A"): 2.0,
    key("mps_replica_memory_limit_bytes", uuid="A"): float(10 << 30),
    key("mps_replica_threads_limit_ratio", uuid="A"): 0.25,
}
