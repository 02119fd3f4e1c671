"""What the exporter knows at one moment, and what the probes answer from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proto.control import ServiceState
from proto.fitness import Fitness, fitness
from proto.messages import NodeState, WorkerState
from supervisor.status.allocations import Allocation


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The newest message of each process, and when it arrived."""

    service: ServiceState | None = None
    service_at: float = 0.0
    node: NodeState | None = None
    workers: Mapping[str, tuple[WorkerState, float]] = field(default_factory=dict)
    """By resource."""
    allocations: tuple[Allocation, ...] | None = None
    """Which containers hold devices; None while the kubelet does not answer."""
    node_at: float = 0.0

    def fitness(self, now: float, stale_after: float) -> Fitness:
        """Return the health of the devices at *now*."""
        unknown = self.service.unknown if self.service else None
        return fitness(self.node, unknown=unknown, silent=now - self.node_at > stale_after)

    def planned_workers(self) -> dict[str, tuple[WorkerState, float] | None]:
        """Return the planned resources, each with the newest state of its worker."""
        planned = (self.service and self.service.planned) or ()
        return {resource: self.workers.get(resource) for resource in planned}


def not_live(snapshot: Snapshot, now: float, stale_after: float) -> list[str]:
    """Return why the service is not live; the state of GPUs, kubelet and driver does not matter."""
    if snapshot.service is None or now - snapshot.service_at > stale_after:
        return ["supervisor: no heartbeat"]
    starting = {child.name for child in snapshot.service.processes if child.state == "starting"}
    problems = []
    for resource, word in snapshot.planned_workers().items():
        if f"worker {resource}" in starting:
            continue  # the supervisor limits the time for a start
        if word is None or now - word[1] > stale_after:
            problems.append(f"worker {resource}: no heartbeat")
        elif not word[0].answering:
            problems.append(f"worker {resource}: does not answer on its own socket")
    return problems


def not_ready(snapshot: Snapshot, now: float, stale_after: float) -> list[str]:
    """Return why pods cannot get the planned resources; the health of GPUs does not matter."""
    problems = not_live(snapshot, now, stale_after)
    if problems or snapshot.service is None:
        return problems
    if snapshot.service.planned is None:
        return [snapshot.service.problem or "monitor: GPUs not listed yet"]
    problems = [f"{p.kind}: {p.text}" for p in snapshot.service.problems if p.fatal]
    for resource, word in snapshot.planned_workers().items():
        if word is None:
            problems.append(f"{resource}: its worker is still starting")
        elif not word[0].registered:
            problems.append(f"{resource}: not registered with the kubelet")
        elif not word[0].streams:
            problems.append(f"{resource}: the kubelet has no ListAndWatch stream open")
    return problems
