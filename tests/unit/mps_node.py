"""A node whose GPU A is shared by MPS, as the exporter knows it."""

import dataclasses
from typing import Any

from msgspec.structs import replace

from proto.control import ServiceState
from proto.fitness import LastMpsWord
from proto.messages import MpsState, UsageState
from proto.mps import MpsClient, MpsDaemon, MpsShare, Phase, ServerStatus
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from supervisor.status.allocations import Allocation
from supervisor.status.report import Status
from supervisor.status.snapshot import KnownUsage, Snapshot
from supervisor.status.status import About, status
from supervisor.status.usage_owner import Owner, OwnerKind, Owners
from tests.unit.builders import gpu, inventory, node_state, worker_state

NOW, WALL, STALE = 1000.0, 1_800_000_000.0, 10.0
GPU = "nvidia.com/gpu"
ABOUT = About("1.2.3", STALE)
SHARE = MpsShare(20480, 25)
DAEMON = MpsDaemon(
    "A",
    Phase.READY,
    since=5.0,
    pid=40,
    server=41,
    status=ServerStatus.ACTIVE,
    clients=(MpsClient(7, "python3"), MpsClient(8)),
    share=SHARE,
    restarts=1,
)
ANNA = Owner(OwnerKind.CONTAINER, "team", "anna", "main")
KEEPER = Owner(OwnerKind.CONTAINER, "kube-system", "plugin-mps", "main")
NODE = replace(node_state({"A": ()}), inventory=inventory(gpu(0, uuid="A")))
HELD = (Allocation(GPU, "A::0", "team", "anna", "main"),)


def process(pid: int, kind: ProcessKind = ProcessKind.MPS, memory: int = 100) -> GpuProcess:
    """Return a process on the GPU."""
    return GpuProcess(pid, kind, memory, None)


SERVER = process(41, ProcessKind.COMPUTE, 30)


def known(
    *daemons: MpsDaemon,
    processes: tuple[GpuProcess, ...] = (SERVER, process(7)),
    owners: dict[int, Owner] | None = None,
    replicas: int = 4,
    held: tuple[Allocation, ...] = HELD,
    **fields: Any,
) -> Snapshot:
    """Return what the exporter knows of GPU A, which the plan shares by MPS."""
    of = {("A", pid): owner for pid, owner in (owners or {7: ANNA, 41: KEEPER}).items()}
    sample = DeviceUsage("A", 1.0, memory_used=4000, memory_total=8000, processes=processes)
    usage = UsageState(epoch=1, sequence=1, interval=5.0, devices=(sample,))
    usual = Snapshot(
        service=ServiceState(processes=(), planned=(GPU,), mps={"A": SHARE}),
        service_at=NOW,
        node=NODE,
        node_at=NOW,
        workers={GPU: (worker_state(GPU, healthy=4, replicas={"A": replicas}), NOW)},
        allocations=held,
        usage=KnownUsage(usage, NOW, Owners(of)),
        mps=LastMpsWord(NOW, MpsState(epoch=1, sequence=1, daemons=daemons or (DAEMON,))),
    )
    return dataclasses.replace(usual, **fields)


def told(snapshot: Snapshot) -> Status:
    """Return the status."""
    return status(snapshot, ABOUT, NOW, WALL)
