"""The times of the kubelet's calls over the socket, measured with a plain gRPC client."""

import contextlib
import functools
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import DevicePluginStub
from tests.bench.kubelet import kubelet
from tests.bench.plugin import Plugin, running
from tests.bench.rows import Figures
from tests.fakes.service import short_folder

GPU = "nvidia.com/gpu"
BURST = 200
"""Allocates in a second."""
RANDOM = random.Random(0)  # noqa: S311 - the same questions every time, not a secret


def rest(seconds: float) -> None:
    """Wait until the plugin is idle, or until a call is due; no event shows that."""
    threading.Event().wait(max(0.0, seconds))


def milliseconds(call: Callable[[], Any]) -> float:
    """Return how long *call* takes."""
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1e3


class Calls:
    """The kubelet's calls for one resource."""

    def __init__(self, stub: DevicePluginStub, ids: Sequence[str]) -> None:
        self._stub = stub
        self.ids = list(ids)
        RANDOM.shuffle(self.ids)  # a kubelet sends them in random order

    def empty(self) -> None:
        """Make a call that does nothing, to measure gRPC itself."""
        self._stub.GetDevicePluginOptions(api.Empty())

    def preferred(self, size: int, among: Sequence[str] | None = None) -> list[str]:
        """Ask for the preferred *size* devices."""
        container = api.ContainerPreferredAllocationRequest(
            available_deviceIDs=among or self.ids, allocation_size=size
        )
        request = api.PreferredAllocationRequest(container_requests=[container])
        answer = self._stub.GetPreferredAllocation(request)
        return list(answer.container_responses[0].deviceIDs)

    def allocate(self, ids: Sequence[str]) -> None:
        """Allocate the devices with these *ids*."""
        container = api.ContainerAllocateRequest(devices_ids=ids)
        self._stub.Allocate(api.AllocateRequest(container_requests=[container]))

    def admit(self, size: int) -> None:
        """Make both calls in a row, as for a new pod."""
        self.allocate(self.preferred(size))


def of_whole_gpus(plugin: Plugin, rounds: int) -> Figures:
    """Measure with eight whole GPUs."""
    with short_folder() as folder, kubelet(folder) as node, running(plugin, folder):
        ids = node.next_list().ids()
        channel, stub = node.stub(GPU)
        with channel:
            calls = Calls(stub, ids)
            for _ in range(rounds // 10):
                calls.admit(4)
            # Alternate the calls, so that a busy moment of the machine affects all of them.
            turns = [
                (
                    milliseconds(calls.empty),
                    milliseconds(lambda: calls.preferred(1)),
                    milliseconds(lambda: calls.admit(4)),
                    milliseconds(lambda: calls.allocate(calls.ids[:4])),
                )
                for _ in range(rounds)
            ]
    keys = ("empty", "preferred-1", "admission", "allocate")
    return dict(zip(keys, map(list, zip(*turns, strict=True)), strict=True))


@contextlib.contextmanager
def shared(plugin: Plugin, replicas: int) -> Iterator[Calls]:
    """Yield the calls of a plugin with so many replicas of each of eight GPUs."""
    with (
        short_folder() as folder,
        kubelet(folder) as node,
        running(plugin, folder, replicas=replicas),
    ):
        heard = node.next_list()
        channel, stub = node.stub(heard.resource)
        with channel:
            yield Calls(stub, heard.ids())


def of_replicas(plugin: Plugin, rounds: int, replicas: int = 1000) -> Figures:
    """Measure with a thousand replicas of each of eight GPUs."""
    with shared(plugin, replicas) as calls:
        times = [milliseconds(lambda: calls.preferred(8)) for _ in range(rounds // 4)]
    return {"preferred-8000": times}


def of_bursts(plugin: Plugin, bursts: int, replicas: int = 30) -> Figures:
    """Measure 200 Allocates within a second, of a device each, as when many pods start at once."""
    times = []
    with shared(plugin, replicas) as calls:
        calls.empty()
        for _ in range(bursts):
            begun = time.perf_counter()
            for place in range(BURST):
                rest(begun + place / BURST - time.perf_counter())
                ids = calls.ids[place : place + 1]
                times.append(milliseconds(functools.partial(calls.allocate, ids)))
    return {"burst": times}


def connected_at_random(gpus: int) -> dict[str, object]:
    """Return a node whose GPUs are connected at random; symmetry would make the choice easy."""
    links = [
        {"between": pair, "path": "NODE", "nvlinks": RANDOM.randrange(19)}
        for pair in itertools.combinations(range(gpus), 2)
    ]
    return {"gpus": [{}] * gpus, "links": links}


def of_topology(plugin: Plugin, rounds: int) -> Figures:
    """Measure with 20 GPUs, of which a different random 16 are free each time."""
    node_file = connected_at_random(20)
    cold, cached = [], []
    with (
        short_folder() as folder,
        kubelet(folder) as node,
        running(plugin, folder, node=node_file),
    ):
        ids = node.next_list().ids()
        channel, stub = node.stub(GPU)
        with channel:
            calls = Calls(stub, ids)
            calls.empty()
            choices = list(itertools.combinations(ids, 16))
            for some in RANDOM.sample(choices, rounds // 4):
                ask = lambda some=some: calls.preferred(8, some)  # noqa: E731
                cold.append(milliseconds(ask))
                cached.append(milliseconds(ask))
    return {"preferred-cold": cold, "preferred-cached": cached}
