"""A worker process: serves one resource to the kubelet until the supervisor stops it.

The worker receives orders on the supervisor's channel and the node's state on the health bus.
It publishes its own state on the telemetry bus. One asyncio loop, no threads of ours.
"""

import asyncio
import time

import msgspec
import zmq
from loguru import logger

from proto import bus
from proto.channel import Channel
from proto.child_loop import ChildLoop
from proto.control import Configure, Register, Settled, Unknown
from proto.fitness import LastWord
from proto.messages import WorkerState
from proto.mps_listener import MpsListener
from proto.worker import WorkerSettings
from workers import devices
from workers.device_log import log_changes
from workers.devices import View
from workers.keep_registered import Membership
from workers.kubelet import Endpoint
from workers.listing import Shelf
from workers.servicer import Servicer

CHECK_EVERY = 10.0
"""Seconds between two self-checks; each costs as much CPU time as ten idle seconds."""


def main(settings: WorkerSettings, channel: Channel, epoch: int) -> int:
    """Run the worker until it is told to stop; return the exit code."""
    return asyncio.run(_live(settings, channel, epoch))


async def _live(settings: WorkerSettings, channel: Channel, epoch: int) -> int:
    return await Worker(settings, channel, epoch).run()


class Worker:
    """Serves one resource, from the first node state to the order to stop."""

    def __init__(self, settings: WorkerSettings, channel: Channel, epoch: int) -> None:
        self._settings = settings
        self._channel = channel
        self._epoch = epoch
        self._sequence = 0
        self._plan = settings.plan
        self._stale_after = settings.stale_after
        self._replicas = devices.replicas(settings.plan)
        self._word = LastWord(time.monotonic())
        context = zmq.Context()
        self._mps = MpsListener(context, settings.paths.mps_bus, self._learn)
        self._mps.want(settings.plan.mps)
        self._shelf = Shelf(self._view())
        self._servicer = Servicer(self._shelf, settings.handout, self._publish)
        self._endpoint = Endpoint(
            f"{settings.paths.plugin_folder}/{settings.endpoint}", self._servicer
        )
        self._membership = Membership(
            settings, self._endpoint, self._servicer, self._publish, self._on_settled
        )
        self._known = asyncio.Event()
        self._life = ChildLoop(
            channel,
            {
                Register: self._on_new_kubelet,
                Unknown: self._on_unknown,
                Configure: self._on_configuration,
            },
            self._on_beat,
        )
        self._health = bus.health_subscriber(context, settings.paths.health_bus)
        self._telemetry = bus.TelemetryPublisher(context, settings.paths.telemetry_bus)

    async def run(self) -> int:
        """Serve until the order to stop, or until the supervisor dies; return the exit code."""
        ending = await self._life.run(
            self._follow_health,
            self._mps.follow,
            self._keep_registered,
            self._greet,
            self._check_ourselves,
        )
        if ending.withdraw:
            self._plan, self._replicas = msgspec.structs.replace(self._plan, devices=()), {}
            self._shelf.put(self._view())
        self._shelf.close()
        await self._endpoint.stop()
        self._servicer.burst.finish()
        return ending.code

    def _on_new_kubelet(self, _: Register) -> None:
        self._membership.on_new_kubelet()

    def _on_unknown(self, order: Unknown) -> None:
        self._word = self._word.denied(order)
        self._learn()

    def _on_configuration(self, order: Configure) -> None:
        if order.plan != self._plan:
            count = len(order.plan.devices)
            logger.info("resource changed", devices=count, replicas=order.plan.replicas)
        self._plan = order.plan
        self._replicas = devices.replicas(order.plan)
        self._stale_after = order.stale_after
        self._mps.want(order.plan.mps)
        self._servicer.hand_out(order.handout)
        self._refresh()

    async def _follow_health(self) -> None:
        """Receive each new state of the node."""
        async for state in bus.node_states(self._health):
            self._word = self._word.after(state, time.monotonic())
            self._learn()

    def _on_beat(self) -> None:
        """Once a second: check whether the others are silent, and publish our state."""
        now = time.monotonic()
        self._mps.look()
        silent = self._word.silent(now, self._stale_after)
        if silent or self._mps.silent(now, self._stale_after) or not self._known.is_set():
            self._learn()
        self._publish()

    def _learn(self) -> None:
        """Use what the others said last; before the first list, wait for a word of each of them.

        Else the kubelet would see healthy devices as Unhealthy for a moment after each restart.
        """
        if not self._known.is_set():
            now, word = time.monotonic(), self._word
            told = word.state or word.unknown or word.silent(now, self._stale_after)
            if not (told and self._mps.settled(now)):
                return
        self._refresh()
        self._known.set()

    async def _greet(self) -> None:
        """Send our whole state to each exporter that connects, at once."""
        while True:
            await self._telemetry.joined()
            self._publish()

    async def _check_ourselves(self) -> None:
        """Call our own socket regularly: a worker that the kubelet cannot reach is not live."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            await self._endpoint.check()

    def _view(self) -> View:
        now = time.monotonic()
        held_back = self._mps.reasons(now, self._stale_after)
        fitness = self._word.fitness(now, self._stale_after, held_back)
        return devices.view(self._plan, self._replicas, self._word.state, fitness)

    def _refresh(self) -> None:
        """Send the kubelet a new device list, if the view changed."""
        view = self._view()
        before = self._shelf.view
        if view == before:
            return
        self._servicer.show(view)
        # After the streams: the kubelet should not wait for the exporter and the log.
        first = not self._known.is_set()
        asyncio.get_running_loop().call_soon(self._report, before, view, first)

    def _report(self, before: View, view: View, first: bool) -> None:  # noqa: FBT001
        """Send the exporter the new state; log the *first* device list, or what changed in it."""
        self._publish()
        replicas = {device.uuid: device.replicas for device in self._plan.devices}
        if first:
            logger.info(
                "the device list for the kubelet is ready",
                devices=len(view.replicas),
                gpus=len({device.gpu for device in self._plan.devices}),
                unhealthy=sum(replicas.get(uuid, 0) for uuid in view.unhealthy),
            )
        else:
            log_changes(before, view, replicas)

    async def _keep_registered(self) -> None:
        await self._known.wait()  # advertise nothing before the health is known
        await self._membership.keep()

    def _on_settled(self, registered: bool) -> None:  # noqa: FBT001 - a callback of one value
        self._channel.send(Settled(registered=registered))

    def _publish(self) -> None:
        self._sequence += 1
        view = self._shelf.view
        replicas = {device.uuid: device.replicas for device in self._plan.devices}
        # Counted by GPU: a loop over thousands of replicas would take longer than all else here.
        unhealthy = sum(replicas[uuid] for uuid in view.unhealthy)
        self._telemetry.publish(
            WorkerState(
                epoch=self._epoch,
                sequence=self._sequence,
                resource=self._plan.resource,
                registered=self._membership.registered,
                registrations=self._membership.registrations,
                streams=self._servicer.streams,
                healthy=len(view.replicas) - unhealthy,
                unhealthy=unhealthy,
                replicas=replicas,
                list_bytes=self._shelf.list_bytes(),
                rpcs=self._servicer.rpcs.stats(),
                answering=self._endpoint.answering,
            )
        )
