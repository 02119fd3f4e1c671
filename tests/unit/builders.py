"""Build values for unit tests; a test gives only the fields that matter to it."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from health.condition import Condition, Look, after_fault, after_look
from proto.messages import (
    DeviceHealth,
    FailedGpu,
    Gpu,
    Inventory,
    Link,
    MigInstance,
    NodeState,
    WorkerState,
)
from proto.monitor import Recovery
from proto.mps import MpsShare
from proto.reasons import Reason
from proto.worker import PlannedDevice, ResourcePlan
from simulator.nvml_handles import NVMLError
from workers.devices import Replica, View, replicas


class Driver:
    """An NVML binding with only these functions; each returns a value, raises, or calls."""

    NVMLError = NVMLError

    def __init__(self, **answers: object) -> None:
        for name, answer in answers.items():
            setattr(self, name, functools.partial(_answer, answer))


def _answer(answer: object, *arguments: object) -> object:
    if isinstance(answer, Exception):
        raise answer
    return answer(*arguments) if callable(answer) else answer


def refusal(code: int) -> NVMLError:
    """Return the NVML error with this return code."""
    made = NVMLError(2)
    made.value = code
    return made


def gpu_uuid(place: int) -> str:
    """Return the UUID of the GPU with index *place*; UUIDs sort like the indices."""
    return f"GPU-00000000-0000-0000-0000-{place:012x}"


def gpu(place: int = 0, **fields: Any) -> Gpu:
    """Return an H100 with index *place*; *fields* replace its usual values."""
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


def mig_uuid(gpu_place: int, place: int) -> str:
    """Return the UUID of MIG instance *place* on the GPU with index *gpu_place*."""
    return f"MIG-{gpu_place:08x}-0000-0000-0000-{place:012x}"


def mig_gpu(place: int, *profiles: str, **fields: Any) -> Gpu:
    """Return a GPU in MIG mode with one instance of each profile, with the profile's memory."""
    instances = (
        MigInstance(mig_uuid(place, n), n, 7 + n, 0, profile, _memory(profile), (3 + 2 * n,))
        for n, profile in enumerate(profiles)
    )
    return gpu(place, mig_enabled=True, instances=tuple(instances), **fields)


def _memory(profile: str) -> int:
    size = re.search(r"(\d+)gb", profile)
    return int(size[1]) * 1024 - 256 if size else 1024


def inventory(
    *gpus: Gpu,
    failed: tuple[FailedGpu, ...] = (),
    links: tuple[Link, ...] = (),
    nodes: tuple[str, ...] = (),
) -> Inventory:
    """Return the inventory of a node with these GPUs."""
    return Inventory("580.95.05", gpus, failed=failed, nodes=nodes, links=links)


def after_event(
    before: Condition, event: Look | Reason, now: float, recovery: Recovery
) -> Condition:
    """Return the device's condition after a health check or a fatal event."""
    if isinstance(event, Reason):
        return after_fault(before, event, now)
    return after_look(before, event, recovery, now)


def condition_after(events: Mapping[float, Look | Reason], recovery: Recovery) -> Condition:
    """Return a device's condition after health checks and fatal events, by time in seconds."""
    condition = Condition()
    for now, event in events.items():
        condition = after_event(condition, event, now, recovery)
    return condition


def node_state(
    health: dict[str, tuple[Reason, ...]], epoch: int = 1, sequence: int = 1
) -> NodeState:
    """Return the state of a node whose devices are Unhealthy for these reasons."""
    return NodeState(
        epoch=epoch,
        sequence=sequence,
        inventory=inventory(),
        health=tuple(DeviceHealth(uuid, reasons) for uuid, reasons in health.items()),
    )


def worker_state(resource: str = "nvidia.com/gpu", **fields: Any) -> WorkerState:
    """Return the telemetry of a worker without problems; *fields* replace its usual values."""
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
    counts: dict[str, int],
    numa: int | None = None,
    resource: str = "nvidia.com/gpu",
    mps: MpsShare | None = None,
) -> ResourcePlan:
    """Return a resource of whole GPUs; *counts* has the number of replicas by UUID."""
    devices = (PlannedDevice(uuid, uuid, n, numa_node=numa, mps=mps) for uuid, n in counts.items())
    return ResourcePlan(resource, tuple(devices))


def view(
    counts: dict[str, int],
    unhealthy: dict[str, tuple[Reason, ...]] | None = None,
    numa: int | None = None,
    mps: MpsShare | None = None,
) -> View:
    """Return the view of a worker that advertises these GPUs."""
    return View("nvidia.com/gpu", replicas(plan(counts, numa, mps=mps)), unhealthy or {})


def known(counts: dict[str, int]) -> dict[str, Replica]:
    """Return the replicas of whole GPUs by device ID."""
    return replicas(plan(counts))
