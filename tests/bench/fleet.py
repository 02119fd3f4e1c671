"""The loops of many cluster processes in one process, against a stand-in API server.

The clock is virtual, so an hour of the fleet takes minutes. The health bus is left out: each node
gets its state from here.
"""

import asyncio
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from proto.advertising import Advertised, Advertising, SharingStrategy
from proto.channel import Channel
from proto.cluster import ClusterSettings
from proto.control import LabelNode, ServiceState
from proto.labels import LabelOutput, LabelSettings
from proto.messages import DeviceHealth, DeviceState, NodeState
from proto.reasons import Reason, ReasonKind
from supervisor.cluster.main import Cluster
from tests.fakes.api_fleet import FleetServer
from tests.unit.builders import gpu, inventory

GPUS, REPLICAS = 8, 4
LABEL = "nvidia.com/device-plugin.config"

GPU = "nvidia.com/gpu"
INVENTORY = inventory(*(gpu(place) for place in range(GPUS)))
UUIDS = tuple(found.uuid for found in INVENTORY.gpus)
SHARED = Advertised(GPU, UUIDS, REPLICAS, SharingStrategy.TIME_SLICING)

STATE_EVERY = 5.0
"""Seconds between two states of a node; the monitor's second would only take longer here."""

NODE_BYTES = 16 << 10
"""Of a Node object as JSON: 50 images in its status, conditions, and the managers of its fields."""


class SimulatedNode(Cluster):
    """The cluster process of one node, without the health bus and the supervisor."""

    def __init__(self, name: str, output: LabelOutput) -> None:
        """Run with Events, the condition, the watch of the label, and labels to the *output*."""
        labels = LabelSettings("", 10.0, output, health=True, machine_type_file="")
        settings = ClusterSettings(
            health_bus="",
            mps_bus="",
            node=name,
            events=True,
            condition=True,
            label=LABEL,
            stale_after=10.0,
            labels=labels if output.uses_api_server else None,
        )
        self.supervisor, end = Channel.pair()
        super().__init__(settings, end)
        self._end = end
        self.fatal_xid = 0

    async def _listen(self) -> None:
        await asyncio.sleep(STATE_EVERY * random.random())  # noqa: S311 - no secret
        while True:
            self.speak()
            await asyncio.sleep(STATE_EVERY)

    def speak(self) -> None:
        """Let the monitor send its state."""
        reasons = (Reason(ReasonKind.XID, str(self.fatal_xid)),) if self.fatal_xid else ()
        state = DeviceState.UNHEALTHY if reasons else DeviceState.HEALTHY
        health = tuple(DeviceHealth(uuid, reasons, state=state) for uuid in UUIDS)
        self.on_state(NodeState(epoch=1, sequence=1, inventory=INVENTORY, health=health))

    def relabel(self, gpus: int) -> None:
        """Let the supervisor order the labels of a node with so many GPUs."""
        found = replace(INVENTORY, gpus=INVENTORY.gpus[:gpus])
        self.supervisor.send(LabelNode(found, Advertising(resources=(SHARED,))))

    async def live(self) -> None:
        """Run until it is cancelled."""
        self.supervisor.send(ServiceState(processes=(), planned=()))
        self.relabel(GPUS)
        try:
            await self.run()
        finally:
            # Else the loop takes the next socket with this number for one that it watches.
            asyncio.get_running_loop().remove_reader(self._end.fileno())
            self._context.destroy(linger=0)
            await self._api.close()
            self.supervisor.close()
            self._end.close()


class Fleet:
    """The cluster processes of all nodes, which start and stop together."""

    def __init__(self, count: int, output: LabelOutput) -> None:
        """Prepare *count* nodes that bring their labels to the *output*."""
        self.names = [f"node-{number}" for number in range(count)]
        self.server = FleetServer(self.names, NODE_BYTES)
        self.nodes: list[SimulatedNode] = []
        self._output = output
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all processes at once."""
        self.nodes = [SimulatedNode(name, self._output) for name in self.names]
        self._tasks = [asyncio.create_task(node.live()) for node in self.nodes]

    async def stop(self) -> None:
        """End all processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def fail(self, nodes: Iterable[SimulatedNode]) -> None:
        """Let all GPUs of these *nodes* have a fatal Xid, now."""
        for node in nodes:
            node.fatal_xid = 79
            node.speak()


@contextmanager
def kubeconfig(server: FleetServer, folder: Path) -> Iterator[None]:
    """Let all processes find the *server*."""
    before = dict(os.environ)
    os.environ.update(server.kubeconfig(folder))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
