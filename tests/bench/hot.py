"""Run each pure function of the hot paths once, so that callgrind counts its instructions.

The argument is the library that `tests/fakes/counting.c` is compiled to.
"""

import ctypes
import itertools
import sys
from collections.abc import Callable, Mapping

from health.verdict import health_of
from proto.messages import DeviceHealth, Gpu, Inventory, LinkLevel, MigInstance, NodeState
from proto.worker import AllocationPolicy, Handout, PlannedDevice, ResourcePlan
from supervisor.exporter.samples import samples
from supervisor.status.allocations import Allocation
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About
from workers.allocation import Allocator
from workers.devices import View, replicas
from workers.listing import Listing
from workers.response import allocate
from workers.topology import LEVEL_SCORES, NVLINK_SCORE, Topology

RESOURCE = "nvidia.com/gpu"
UUIDS = [f"GPU-00000000-0000-0000-0000-{place:012x}" for place in range(16)]


def gpu(place: int, instances: int = 0) -> Gpu:
    """Return a GPU with so many MIG instances."""
    migs = tuple(
        MigInstance(f"MIG-{place}-{index}", index, 7 + index, 0, "1g.10gb")
        for index in range(instances)
    )
    name = "NVIDIA H100 80GB HBM3"
    bus = f"0000:{place + 1:02x}:00.0"
    return Gpu(UUIDS[place], place, place, bus, name, 81559, 0, "9.0", bool(migs), migs)


def shared(count: int) -> ResourcePlan:
    """Return a plan for eight GPUs with so many replicas each."""
    return ResourcePlan(RESOURCE, tuple(PlannedDevice(u, u, count) for u in UUIDS[:8]))


def connected() -> Topology:
    """Return sixteen GPUs whose connections differ from pair to pair."""
    scores = {}
    for first, second in itertools.combinations(range(16), 2):
        score = LEVEL_SCORES[LinkLevel.NODE] + NVLINK_SCORE * (first * second % 19)
        scores[UUIDS[first], UUIDS[second]] = scores[UUIDS[second], UUIDS[first]] = score
    return Topology(scores)


def held() -> tuple[Snapshot, About]:
    """Return a node of eight GPUs with a hundred replicas each, all allocated to pods."""
    gpus = tuple(gpu(place) for place in range(8))
    health = tuple(DeviceHealth(gpu.uuid) for gpu in gpus)
    node = NodeState(epoch=1, sequence=1, inventory=Inventory("580", gpus), health=health)
    pods = tuple(
        Allocation(RESOURCE, name, "default", f"pod-{name}", "main")
        for name in replicas(shared(100))
    )
    return Snapshot(node=node, allocations=pods), About("1", 10.0)


def hot() -> Mapping[str, Callable[[], object]]:
    """Return the functions by name, ready to call."""
    many, few, hundred = (replicas(shared(count)) for count in (1000, 1, 100))
    allocator = Allocator(many, AllocationPolicy.DISTRIBUTED, Topology({}))
    topology = connected()
    view = View(RESOURCE, few, {})
    instances = Inventory("580", tuple(gpu(place, 7) for place in range(8)))
    snapshot, about = held()
    names = [*many]
    return {
        "prefer 8 of 8000 replicas": lambda: allocator.preferred(names, (), 8),
        "prefer 8 of 16 GPUs": lambda: topology.choose(UUIDS, (), 8),
        "answer Allocate of 4 GPUs": lambda: allocate(view, Handout(), UUIDS[:4]),
        "encode a list of 800 devices": lambda: Listing(hundred).of({UUIDS[0]}),
        "health of 8 GPUs with 56 instances": lambda: health_of(instances, {}, {}),
        "samples of 800 held replicas": lambda: [*samples(snapshot, about, {}, 0.0, 0.0)],
    }


def main(library: str) -> None:
    """Call each function once to warm up, and once more to count."""
    counting = ctypes.CDLL(library)
    for function in hot().values():
        function()
        counting.begin()
        function()
        counting.end()


if __name__ == "__main__":
    main(sys.argv[1])
