"""How many series a large node has, as docs/metrics.md tells."""

from collections import Counter
from pathlib import Path

from msgspec.structs import replace

from proto.control import ServiceState
from proto.messages import UsageState
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from supervisor.exporter.samples import samples
from supervisor.exporter.usage_metrics import FAMILIES
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import KnownUsage, Snapshot
from supervisor.status.status import About
from supervisor.status.usage_owner import Owner, OwnerKind, Owners
from tests.unit.builders import gpu, gpu_uuid, inventory, node_state, worker_state

DOCS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
GPUS, PODS, RESOURCE = 8, 100, "nvidia.com/gpu"
PROCESSES = 3
"""Of each container; they make no series of their own."""


def crowded() -> Snapshot:
    """Return a node of eight GPUs, each used by a hundred containers of a hundred pods."""
    allocations, owners, devices = [], {}, []
    for place in range(GPUS):
        uuid, processes = gpu_uuid(place), []
        for number in range(PODS):
            pod = f"pod-{place}-{number}"
            allocations.append(Allocation(RESOURCE, f"{uuid}::{number}", "space", pod, "main"))
            for process in range(PROCESSES):
                pid = 1000 * number + process
                owners[uuid, pid] = Owner(OwnerKind.CONTAINER, "space", pod, "main")
                processes.append(GpuProcess(pid, ProcessKind.COMPUTE, 1 << 20, 1))
        figures = (50, 20, 1 << 30, 80 << 30, 0, 40, 300.0, 700.0, 1980, 2619)
        devices.append(DeviceUsage(uuid, 1.0, *figures, processes=tuple(processes)))
    usage = UsageState(epoch=1, sequence=1, interval=5.0, devices=tuple(devices))
    worker = worker_state(RESOURCE, replicas={gpu_uuid(place): PODS for place in range(GPUS)})
    gpus = (gpu(place) for place in range(GPUS))
    return Snapshot(
        service=ServiceState(processes=(), planned=(RESOURCE,)),
        node=replace(node_state({}), inventory=inventory(*gpus)),
        workers={RESOURCE: (worker, 0.0)},
        allocations=tuple(allocations),
        usage=KnownUsage(usage, 0.0, Owners(owners)),
    )


def count(*, named: bool) -> Counter[str]:
    """Return the number of series of each metric."""
    about = About("1", 10.0, pod_labels=named)
    return Counter(sample.name for sample in samples(crowded(), about, {}, 0.0, 0.0))


def test_the_documentation_tells_how_many_series_there_are() -> None:
    """Each container has four series, however many processes it has; each GPU has a few."""
    with_pods, without = count(named=True), count(named=False)
    per_container = {name for name, series in with_pods.items() if series == GPUS * PODS}
    assert per_container == {
        "allocation_info",
        "container_memory_used_bytes",
        "container_utilization_ratio",
        "container_memory_share_bytes",
    }
    of_usage = sum(without[family.name] for family in FAMILIES if family.labels)
    assert f"| metrics of containers | {4 * GPUS * PODS} |" in DOCS
    assert f"| usage of GPUs | {of_usage} |" in DOCS
    assert f"| with `--pod-labels=false` | {4 * GPUS * PODS} fewer |" in DOCS
    assert sum(with_pods.values()) - sum(without.values()) == 4 * GPUS * PODS
