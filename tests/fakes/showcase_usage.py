"""How much of the busy node's GPUs is in use, now and in the last hour."""

import math
from collections.abc import Iterable

from proto.messages import MigInstance, UsageState
from proto.usage import DeviceUsage, GpuProcess, ProcessKind
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import KnownUsage
from supervisor.status.usage_history import History
from supervisor.status.usage_owner import HOST, UNKNOWN, Owner, OwnerKind, Owners

MIB, TOTAL = 1 << 20, 81559 << 20
INTERVAL = 5.0
UUIDS = (
    "GPU-5d1c7a52-9f0e-4c1b-8a34-1f0e6bb0c001",
    "GPU-0a8e41c7-33b2-4f8c-9d6e-77d2a2a4c002",
    "GPU-c2b94f10-6d57-4f27-b1f3-0d3a5e1fc003",
    "GPU-91e0d3aa-1c48-4b7e-a6c5-5b8a9e42c004",
    "GPU-7f4b2c68-e5a1-4d93-8c20-9a6d1f73c005",
    "GPU-e83a5d91-04fc-4a6b-93d7-2c4b8e05c006",
    "GPU-2b6f9e04-a7d8-4c35-bf19-6e1d3a97c007",
    "GPU-d45c0b83-5e92-4178-a0fb-8f7c2d16c008",
)
STRAY = Owner(OwnerKind.CONTAINER, "research", "scratch-5d9f", "main")
LOST = 2
"""The GPU that cannot be sampled."""


def usage(
    now: float, allocations: Iterable[Allocation], instances: Iterable[MigInstance]
) -> KnownUsage:
    """Return samples of a node on which pods use what they hold, and some use more."""
    owners: dict[tuple[str, int], Owner] = {}
    processes: dict[str, list[GpuProcess]] = {}

    def add(uuid: str, owner: Owner, memory: int, utilization: int | None) -> None:
        pid = 20_000 + len(owners)
        owners[uuid, pid] = owner
        mine = GpuProcess(pid, ProcessKind.COMPUTE, memory * MIB, utilization)
        processes.setdefault(uuid, []).append(mine)

    held = tuple(allocations)
    for number, allocation in enumerate(held):
        pod = (allocation.namespace, allocation.pod, allocation.container)
        memory = (18_432, 11_200, 22_900, 6_144)[number % 4] if len(held) < 20 else 512
        busy = None if allocation.uuid.startswith("MIG-") else (61, 22, 35, 8)[number % 4]
        add(allocation.uuid, Owner(OwnerKind.CONTAINER, *pod), memory, busy)
    first, third, fourth = (UUIDS[n] for n in (0, 3, 4))
    add(first, HOST, 412, 0)
    add(third, STRAY, 9_216, 12)
    add(fourth, UNKNOWN, 2_048, 0)
    samples = (
        *(_gpu(n, processes.get(u, []), now) for n, u in enumerate(UUIDS) if n != LOST),
        *(_instance(mig, processes.get(mig.uuid, [])) for mig in instances),
    )
    state = UsageState(epoch=1, sequence=1, interval=INTERVAL, devices=samples)
    return KnownUsage(state, now, Owners(owners))


def history(now: float) -> History:
    """Return the hour before *now*; nothing was sampled for some minutes of it."""
    made = History()
    for ago in range(3600, -1, -10):
        if not 1500 < ago < 1900:
            at = now - ago
            samples = (_gpu(n, [], at) for n in range(len(UUIDS)) if n != LOST or ago > 840)
            made.add(UsageState(epoch=1, sequence=1, interval=10.0, devices=tuple(samples)), at)
    return made


def _gpu(number: int, processes: list[GpuProcess], at: float) -> DeviceUsage:
    mig = number == len(UUIDS) - 1
    wave = math.sin(at / (300 + 40 * number)) + 0.3 * math.sin(at / (37 + number))
    busy = max(0, min(100, round(55 - 6 * number + 30 * wave)))
    used = sum(process.memory or 0 for process in processes) or (
        int(TOTAL * (0.3 + 0.05 * number + 0.1 * math.sin(at / 900))) // MIB * MIB
    )
    return DeviceUsage(
        UUIDS[number],
        at,
        utilization=None if mig else busy,
        memory_utilization=None if mig else busy // 2,
        memory_used=used + 600 * MIB,
        memory_total=TOTAL,
        memory_reserved=500 * MIB,
        temperature=41 + busy // 4,
        power=110.0 + 5.5 * busy,
        power_limit=700.0,
        sm_clock=1980,
        memory_clock=2619,
        processes=None if mig else tuple(processes),
    )


def _instance(mig: MigInstance, processes: list[GpuProcess]) -> DeviceUsage:
    used = sum(process.memory or 0 for process in processes) + 16 * MIB
    total = (mig.memory_mib or 0) * MIB
    return DeviceUsage(
        mig.uuid, 5.0, memory_used=used, memory_total=total, processes=tuple(processes)
    )
