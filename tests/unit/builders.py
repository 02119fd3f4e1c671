"""Values that many unit tests need, each with as little said as the test cares about."""

from typing import Any

import msgspec

from proto.control import PlannedDevice, ResourcePlan
from proto.messages import (
    DeviceHealth,
    FailedGpu,
    Gpu,
    Inventory,
    Link,
    MigInstance,
    NodeState,
    Reason,
    WorkerState,
)
from workers.devices import Replica, View, replicas


def gpu_uuid(place: int) -> str:
    """Return the UUID of the GPU at *place*; it sorts by place."""
    return f"GPU-00000000-0000-0000-0000-{place:012x}"


def gpu(place: int = 0, **fields: Any) -> Gpu:
    """Return an H100 at *place*, with other *fields* where given."""
    usual = Gpu(
        uuid=gpu_uuid(place),
        index=place,
        minor=place,
        pci_bus_id=f"0000:{place + 1:02x}:00.0",
        name="NVIDIA H100 80GB HBM3",
        memory_mib=81559,
        numa_node=None,
        compute_capability="9.0",
    )
    return msgspec.structs.replace(usual, **fields)


def instance(uuid: str, place: int, gi: int, ci: int = 0) -> MigInstance:
    """Return a small MIG instance."""
    return MigInstance(uuid, place, gi, ci, "1g.10gb", 9984)


def inventory(
    *gpus: Gpu, failed: tuple[FailedGpu, ...] = (), links: tuple[Link, ...] = ()
) -> Inventory:
    """Return a node of *gpus*."""
    return Inventory("580.95.05", gpus, failed, links)


def node_state(
    health: dict[str, tuple[Reason, ...]], epoch: int = 1, sequence: int = 1
) -> NodeState:
    """Return a node in which each device has these reasons to be unhealthy."""
    return NodeState(
        epoch=epoch,
        sequence=sequence,
        inventory=inventory(),
        health=tuple(DeviceHealth(uuid, reasons) for uuid, reasons in health.items()),
    )


def worker_state(resource: str = "nvidia.com/gpu", **fields: Any) -> WorkerState:
    """Return the word of a worker with which all is well, but for *fields*."""
    usual = WorkerState(
        epoch=1,
        sequence=1,
        resource=resource,
        registered=True,
        registrations=1,
        streams=1,
        healthy=8,
        unhealthy=0,
    )
    return msgspec.structs.replace(usual, **fields)


def plan(
    counts: dict[str, int], numa: int | None = None, resource: str = "nvidia.com/gpu"
) -> ResourcePlan:
    """Return a resource of whole GPUs, by UUID with each one's replicas."""
    devices = (PlannedDevice(uuid, uuid, count, numa) for uuid, count in counts.items())
    return ResourcePlan(resource, tuple(devices))


def view(
    counts: dict[str, int],
    unhealthy: dict[str, tuple[Reason, ...]] | None = None,
    numa: int | None = None,
) -> View:
    """Return what a worker with that plan shows."""
    return View("nvidia.com/gpu", replicas(plan(counts, numa)), unhealthy or {})


def known(counts: dict[str, int]) -> dict[str, Replica]:
    """Return the replicas of whole GPUs, by id."""
    return replicas(plan(counts))
