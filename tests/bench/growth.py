"""How the costs grow: pod admission with replicas and GPUs, memory with resources."""

from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec

from proto import deviceplugin_pb2 as api
from proto.worker import AllocationPolicy
from tests.bench import footprint, hot, report
from tests.bench.calls import GPU, RANDOM, Calls, connected_at_random, milliseconds
from tests.bench.kubelet import kubelet
from tests.bench.picture import Curve, Picture, draw
from tests.bench.plugin import Plugin, running
from tests.fakes.service import short_folder
from workers.allocation import Allocator
from workers.devices import replicas
from workers.topology import Topology

REPLICAS = (2, 10, 100, 500, 1000, 2500, 5000, 7500)
"""Replicas of each of eight GPUs."""

GPUS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
RESOURCES = (1, 2, 5, 10, 15, 20)
ROUNDS = 30
STARTS = 3


def typical(call: Callable[[], object]) -> float:
    """Return the median time of *call* in milliseconds."""
    return median(milliseconds(call) for _ in range(ROUNDS))


def over_replicas() -> Picture:
    """Measure an admission of 8 replicas over the socket, and two parts of it in this process."""
    found = {8.0 * count: _with_replicas(count) for count in REPLICAS}
    names = ("admission of 8", "reading the ids of the request", "looking them up and choosing")
    curves = tuple(
        Curve(name, [(total, times[part]) for total, times in found.items()])
        for part, name in enumerate(names)
    )
    return Picture("Pod admission over replicas of 8 GPUs", "replicas", "ms", curves, log=True)


def _with_replicas(count: int) -> tuple[float, float, float]:
    with (
        short_folder() as folder,
        kubelet(folder) as node,
        running(Plugin(), folder, replicas=count, node={"gpus": [{}] * 8}),
    ):
        heard = node.next_list()
        channel, stub = node.stub(heard.resource)
        with channel:
            calls = Calls(stub, heard.ids())
            whole = typical(lambda: calls.admit(8))
    ids = calls.ids
    request = api.ContainerPreferredAllocationRequest(available_deviceIDs=ids).SerializeToString()
    read = api.ContainerPreferredAllocationRequest.FromString
    allocator = Allocator(replicas(hot.shared(count)), AllocationPolicy.DISTRIBUTED, Topology({}))
    return (
        whole,
        typical(lambda: list(read(request).available_deviceIDs)),
        typical(lambda: allocator.preferred(ids, (), 8)),
    )


def over_gpus() -> Picture:
    """Measure an admission of up to 8 GPUs: half of a node's GPUs, first never asked before, then
    again.
    """
    # A process answers its first question only once, so each measurement needs a new start.
    found = {float(count): [_with_gpus(count) for _ in range(STARTS)] for count in GPUS}
    curves = tuple(
        Curve(
            name, [(count, median(both[part] for both in times)) for count, times in found.items()]
        )
        for part, name in enumerate(("never asked before", "asked before"))
    )
    return Picture("Pod admission of up to 8 whole GPUs", "GPUs", "ms", curves, log=True)


def _with_gpus(count: int) -> tuple[float, float]:
    size = min(8, max(1, count // 2))
    with (
        short_folder() as folder,
        kubelet(folder) as node,
        running(Plugin(), folder, node=connected_at_random(count)),
    ):
        ids = node.next_list().ids()
        channel, stub = node.stub(GPU)
        with channel:
            calls = Calls(stub, ids)
            calls.empty()
            return milliseconds(lambda: calls.admit(size)), typical(lambda: calls.admit(size))


def over_resources() -> Picture:
    """Measure the memory of all processes by the number of resources, after load."""
    found = [(float(count), footprint.memory_with(Plugin(), 100, count)) for count in RESOURCES]
    return Picture("Memory over resources", "resources", "MiB", (Curve("all processes", found),))


def run(folder: Path) -> None:
    """Measure everything, and write the figures and pictures to *folder*."""
    RANDOM.seed(0)
    pictures = {
        "growth-replicas": over_replicas(),
        "growth-gpus": over_gpus(),
        "growth-resources": over_resources(),
    }
    for name, picture in pictures.items():
        (folder / f"{name}.svg").write_text(draw(picture))
    figures = {"machine": report.machine(), "pictures": pictures}
    encoded = msgspec.json.format(msgspec.json.encode(figures), indent=1)
    (folder / "growth.json").write_bytes(encoded + b"\n")
