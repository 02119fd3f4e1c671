"""A busy node with many faults, for the status, the page and the commands."""

from msgspec.structs import replace

from proto.control import ConfigurationState, ProcessState, ServiceState
from proto.messages import DeviceHealth, DeviceState, NodeState, WorkerState, XidCount
from proto.platform import Platform, PlatformKind
from proto.problem import Problem, ProblemKind
from proto.reasons import Reason, ReasonKind
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About
from tests.fakes import showcase_usage
from tests.unit.builders import gpu, inventory, mig_gpu, worker_state

SHARED, SLICE, LARGE = "nvidia.com/sharedgpu", "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
ABOUT = About(version="0.1.0", stale_after=10.0, backend="simulated", hostname="gpu-17")
UUIDS = showcase_usage.UUIDS
PODS = ("notebook-anna", "notebook-jonas", "vision-serving-6c9f7d5b8-x2lqk", "llm-eval-0")


def snapshot(now: float, wall: float, replicas: int = 4, held: int = 9) -> Snapshot:
    """Return eight GPUs, one in MIG mode, the others shared; two broken, one recovering."""
    shared = [gpu(n, uuid=UUIDS[n], numa_node=n // 4) for n in range(7)]
    last = mig_gpu(7, "1g.10gb", "1g.10gb", "3g.40gb", uuid=UUIDS[7], numa_node=1)
    small, other, large = (instance.uuid for instance in last.instances)
    node = NodeState(
        whole_gpus=False,
        epoch=1,
        sequence=1,
        inventory=replace(inventory(*shared, last), platform=Platform(PlatformKind.NVML)),
        health=_health(wall, small, other, large),
        xids=(
            XidCount(UUIDS[2], 79, 1, wall - 840),
            XidCount(UUIDS[4], 48, 2, wall - 95),
            XidCount(UUIDS[0], 31, 5, wall - 7400),
        ),
    )
    broken = 3
    workers = (
        _worker(SHARED, dict.fromkeys(UUIDS[:7], replicas), broken * replicas),
        _worker(SLICE, {small: 1, other: 1}, 1),
        _worker(LARGE, {large: 1}, 0),
    )
    allocations = (
        *(_allocation(SHARED, f"{UUIDS[n % 7]}::{n // 7}", n) for n in range(held)),
        _allocation(LARGE, large, 3),
    )
    return Snapshot(
        service=_service(wall),
        service_at=now,
        node=node,
        node_at=now,
        workers={worker.resource: (worker, now) for worker in workers},
        allocations=allocations,
        usage=showcase_usage.usage(now, allocations, last.instances),
    )


def _health(wall: float, small: str, other: str, large: str) -> tuple[DeviceHealth, ...]:
    since = wall - 3 * 86400
    well = (DeviceHealth(UUIDS[n], since=since) for n in (0, 1, 3, 6, 7))
    xid, reset = Reason(ReasonKind.XID, "79"), Reason(ReasonKind.RECOVERY_ACTION, "reset the GPU")
    lost = (Reason(ReasonKind.GPU_LOST), xid)
    return (
        *well,
        DeviceHealth(UUIDS[2], lost, DeviceState.LOST, wall - 840, 1, 2),
        DeviceHealth(
            UUIDS[4], (Reason(ReasonKind.XID, "48"), reset), DeviceState.UNHEALTHY, wall - 95, 3, 1
        ),
        DeviceHealth(
            UUIDS[5], (Reason(ReasonKind.XID, "119"),), DeviceState.RECOVERING, wall - 12, 4, 0
        ),
        DeviceHealth(small, since=since),
        DeviceHealth(
            other, (Reason(ReasonKind.XID, "95"),), DeviceState.UNHEALTHY, wall - 3700, 1, 0
        ),
        DeviceHealth(large, since=since),
    )


def _worker(resource: str, replicas: dict[str, int], unhealthy: int) -> WorkerState:
    healthy = sum(replicas.values()) - unhealthy
    return worker_state(resource, healthy=healthy, unhealthy=unhealthy, replicas=replicas)


def _allocation(resource: str, device: str, number: int) -> Allocation:
    namespace = ("research", "vision", "platform")[number % 3]
    pod = PODS[number % len(PODS)] if number < 2 * len(PODS) else f"batch-worker-{number}"
    return Allocation(resource, device, namespace, pod, "main")


def _service(wall: float) -> ServiceState:
    names = ("monitor", "exporter", f"worker {SHARED}", f"worker {SLICE}", f"worker {LARGE}")
    return ServiceState(
        processes=tuple(ProcessState(name, "running", 0, 4711 + n) for n, name in enumerate(names)),
        planned=(SHARED, SLICE, LARGE),
        problems=(
            Problem(
                ProblemKind.NOT_SHARED,
                "cannot share all configured devices of nvidia.com/mig-1g.10gb; "
                "missing on this node: 7:3",
            ),
        ),
        notices=("not shared, because this node has no such resource: nvidia.com/mig-2g.20gb",),
        configuration=ConfigurationState(hash="5f2c9a81", loaded=wall - 86400),
    )
