"""A worker process: serves one resource to the kubelet until it is told to stop.

Orders come over the supervisor's channel, the node's state over the health bus;
its own state goes out over the telemetry bus. One asyncio loop, no threads of ours.
"""

import asyncio
import time

import msgspec
import zmq.asyncio
from loguru import logger

from proto import bus
from proto.channel import Channel
from proto.child_loop import ChildLoop
from proto.control import Configure, Register, Settled, Unknown
from proto.fitness import LastWord
from proto.messages import WorkerState
from proto.worker import WorkerSettings
from workers import devices
from workers.devices import View
from workers.keep_registered import Membership
from workers.kubelet import Endpoint
from workers.listing import Shelf
from workers.servicer import Servicer

CHECK_EVERY = 10.0
"""Seconds between two calls on our own socket; each takes what ten seconds of idling take."""


def main(settings: WorkerSettings, channel: Channel, epoch: int) -> int:
    """Live: serve, register, stream, until told to stop."""
    return asyncio.run(_live(settings, channel, epoch))


async def _live(settings: WorkerSettings, channel: Channel, epoch: int) -> int:
    return await Worker(settings, channel, epoch).run()


class Worker:
    """One resource, from the first state of the node to the order to stop."""

    def __init__(self, settings: WorkerSettings, channel: Channel, epoch: int) -> None:
        self._settings = settings
        self._channel = channel
        self._epoch = epoch
        self._sequence = 0
        self._plan = settings.plan
        self._stale_after = settings.stale_after
        self._replicas = devices.replicas(settings.plan)
        self._word = LastWord(time.monotonic())
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
        context = zmq.asyncio.Context()
        self._health = bus.health_subscriber(context, settings.paths.health_bus)
        self._telemetry = bus.TelemetryPublisher(context, settings.paths.telemetry_bus)

    async def run(self) -> int:
        """Serve until the order to stop, or the supervisor's end, which is one."""
        ending = await self._life.run(
            self._follow_health, self._keep_registered, self._greet, self._check_ourselves
        )
        if ending.withdraw:
            self._plan, self._replicas = msgspec.structs.replace(self._plan, devices=()), {}
            self._shelf.put(self._view())
            await asyncio.sleep(0)  # every stream takes the empty list before it ends
        self._shelf.close()
        await self._endpoint.stop()
        return ending.code

    def _on_new_kubelet(self, _: Register) -> None:
        self._membership.on_new_kubelet()

    def _on_unknown(self, order: Unknown) -> None:
        self._word = self._word.denied(order.reason)
        self._refresh()
        self._known.set()

    def _on_configuration(self, order: Configure) -> None:
        self._plan = order.plan
        self._replicas = devices.replicas(order.plan)
        self._stale_after = order.stale_after
        self._servicer.hand_out(order.handout)
        self._refresh()

    async def _follow_health(self) -> None:
        """Keep the newest state of the node."""
        async for state in bus.node_states(self._health):
            self._word = self._word.after(state, time.monotonic())
            self._refresh()
            self._known.set()

    def _on_beat(self) -> None:
        """Every second notice the monitor's silence, and tell the exporter."""
        if self._word.silent(time.monotonic(), self._stale_after):
            self._refresh()
            self._known.set()
        self._publish()

    async def _greet(self) -> None:
        """Tell an exporter that joins all there is to know, at once."""
        while True:
            await self._telemetry.joined()
            self._publish()

    async def _check_ourselves(self) -> None:
        """Call on our own socket now and then: what the kubelet cannot reach is not alive."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            await self._endpoint.check()

    def _view(self) -> View:
        fitness = self._word.fitness(time.monotonic(), self._stale_after)
        return devices.view(self._plan, self._replicas, self._word.state, fitness)

    def _refresh(self) -> None:
        """Show the kubelet what is new, if anything is."""
        view = self._view()
        before = self._shelf.view
        if view == before:
            return
        self._servicer.show(view)
        # The streams come first: a kubelet should not wait for our words to others.
        first = not self._known.is_set()
        asyncio.get_running_loop().call_soon(self._tell, before, view, first)

    def _tell(self, before: View, view: View, first: bool) -> None:  # noqa: FBT001
        """Tell the exporter, and log what is new in *view*, the *first* one or another."""
        self._publish()
        if first:
            logger.info("listing", devices=len(view.replicas), unhealthy=len(view.unhealthy))
            return
        for uuid in before.unhealthy.keys() | view.unhealthy.keys():
            reasons = [str(reason) for reason in view.unhealthy.get(uuid, ())]
            if reasons != [str(reason) for reason in before.unhealthy.get(uuid, ())]:
                logger.info("listed", uuid=uuid, unhealthy=reasons)

    async def _keep_registered(self) -> None:
        await self._known.wait()  # nothing is advertised before something is known
        await self._membership.keep()

    def _on_settled(self, registered: bool) -> None:  # noqa: FBT001 - a callback of one value
        self._channel.send(Settled(registered=registered))

    def _publish(self) -> None:
        self._sequence += 1
        view = self._shelf.view
        replicas = {device.uuid: device.replicas for device in self._plan.devices}
        # Not by each replica: with thousands of them that takes longer than all else here.
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
