"""A worker process: serves one resource to the kubelet until it is told to stop.

Orders come over the supervisor's channel, the node's state over the health bus;
its own state goes out over the telemetry bus. One asyncio loop, no threads of ours.
"""

import asyncio
import contextlib
import time

import msgspec
import zmq.asyncio
from loguru import logger

from proto import bus
from proto.channel import Channel, ClosedError
from proto.control import (
    Beat,
    Configure,
    ExitCode,
    Ready,
    Register,
    Settled,
    Stop,
    Unknown,
    WorkerSettings,
    until_beat,
)
from proto.messages import NodeState, Reason, WorkerState
from workers import devices, registration
from workers.devices import View
from workers.identity import Identity
from workers.kubelet import Endpoint, KubeletError, register
from workers.servicer import Servicer, Shelf

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
        self._state: NodeState | None = None
        self._heard = time.monotonic()
        self._unknown: Reason | None = None
        """Why nothing is known until another monitor speaks."""
        self._shelf = Shelf(devices.view(self._plan, self._replicas, None, silent=True))
        self._servicer = Servicer(self._shelf, settings.handout, self._publish)
        self._endpoint = Endpoint(
            f"{settings.paths.plugin_folder}/{settings.endpoint}", self._servicer
        )
        self._kubelet = 0
        self._registered_with: int | None = None
        self._met: Identity | None = None
        """The socket of the kubelet with which we are registered, or register just now."""
        self._calling: asyncio.Timeout | None = None
        """Ends the call that registers, while there is one."""
        self._settled: bool | None = None
        """What the supervisor was told of that."""
        self._streamed = 0.0
        self._registrations = self._failures = 0
        self._known = asyncio.Event()
        self._nudge = asyncio.Event()
        self._stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        context = zmq.asyncio.Context()
        self._health = bus.health_subscriber(context, settings.paths.health_bus)
        self._telemetry = bus.TelemetryPublisher(context, settings.paths.telemetry_bus)

    async def run(self) -> int:
        """Serve until the order to stop, or the supervisor's end, which is one."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._on_readable)
        self._channel.send(Ready())
        async with asyncio.TaskGroup() as group:
            endless = (
                self._follow_health,
                self._keep_registered,
                self._beat,
                self._greet,
                self._check_ourselves,
            )
            tasks = [group.create_task(one()) for one in endless]
            order = await self._stop
            for task in tasks:
                task.cancel()
        if order.withdraw:
            nothing = msgspec.structs.replace(self._plan, devices=())
            self._shelf.put(devices.view(nothing, {}, self._state))
            await asyncio.sleep(0)  # every stream takes the empty list before it ends
        self._shelf.close()
        await self._endpoint.stop()
        return ExitCode.DONE

    def _on_readable(self) -> None:
        """Take the supervisor's orders."""
        try:
            while order := self._channel.receive():
                match order:
                    case Register():
                        self._on_new_kubelet()
                    case Unknown():
                        self._unknown = order.reason
                        self._refresh()
                        self._known.set()
                    case Configure():
                        self._on_configuration(order)
                    case Stop():
                        self._on_stop(order)
                    case _:
                        logger.error(
                            "an order that is not for a worker", order=type(order).__name__
                        )
        except ClosedError:
            self._on_stop(Stop())

    def _on_configuration(self, order: Configure) -> None:
        self._plan = order.plan
        self._replicas = devices.replicas(order.plan)
        self._stale_after = order.stale_after
        self._servicer.hand_out(order.handout)
        self._refresh()

    def _on_new_kubelet(self) -> None:
        """Register with it, unless the loss of our own socket has already led us there."""
        if self._met is not None and Identity.of(self._settings.paths.kubelet_socket) == self._met:
            return
        self._kubelet += 1
        self._failures = 0
        self._nudge.set()
        if self._calling:
            # The kubelet that was called may never answer; it is not the one that counts any more.
            self._calling.reschedule(asyncio.get_running_loop().time())
            self._calling = None

    def _on_stop(self, order: Stop) -> None:
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        if not self._stop.done():
            self._stop.set_result(order)

    async def _follow_health(self) -> None:
        """Keep the newest state of the node; an abandoned monitor's is older, whenever it comes."""
        while True:
            state = await bus.receive(self._health)
            if isinstance(state, NodeState) and (not self._state or state.age > self._state.age):
                if self._state is None or state.epoch > self._state.epoch:
                    self._unknown = None
                self._state = state
                self._heard = time.monotonic()
                self._refresh()
                self._known.set()

    async def _beat(self) -> None:
        """Every second give a sign of life, notice the monitor's silence, tell the exporter."""
        while True:
            if self._silent():
                self._refresh()
                self._known.set()
            self._channel.send(Beat())
            self._publish()
            await asyncio.sleep(until_beat(time.monotonic()))

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

    def _silent(self) -> bool:
        return time.monotonic() - self._heard > self._stale_after

    def _refresh(self) -> None:
        """Show the kubelet what is new, if anything is."""
        view = devices.view(
            self._plan, self._replicas, self._state, silent=self._silent(), unknown=self._unknown
        )
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
        """Register, and again whenever something calls for it; retry for ever."""
        await self._known.wait()  # nothing is advertised before something is known
        problem = ""
        while True:
            reason = registration.why(self._standing(), time.monotonic())
            try:
                if reason:
                    await self._register(reason)
                self._failures, problem = 0, ""
                self._settle(registered=bool(self._settings.paths.kubelet_socket))
            except KubeletError as error:
                self._failures += 1
                self._met = None
                if str(error) != problem:
                    logger.warning("not registered, retrying", error=str(error))
                problem = str(error)
                self._settle(registered=False)
            next_look = until_beat(time.monotonic())
            await self._pause(registration.delay(self._failures) if self._failures else next_look)

    def _settle(self, *, registered: bool) -> None:
        if registered is not self._settled:
            self._settled = registered
            self._channel.send(Settled(registered=registered))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._nudge.wait()
        self._nudge.clear()

    def _standing(self) -> registration.Standing:
        if self._servicer.streams:
            self._streamed = time.monotonic()
        return registration.Standing(
            registered=self._registered_with == self._kubelet,
            intact=self._endpoint.intact(),
            streams=self._servicer.streams,
            streamed=self._streamed,
        )

    async def _register(self, reason: str) -> None:
        kubelet = self._kubelet  # a newer one that we hear of meanwhile must be told as well
        if not self._endpoint.intact():
            self._registered_with = None
            self._shelf.close()  # streams over a socket that nobody can find any more
            await self._endpoint.stop()
            self._shelf.open()
            await self._endpoint.serve()
        if self._settings.paths.kubelet_socket:
            await self._call_kubelet(self._settings.paths.kubelet_socket)
            self._registrations += 1
            logger.info("registered", why=reason, endpoint=self._settings.endpoint)
        self._registered_with = kubelet
        self._streamed = time.monotonic()
        self._publish()

    async def _call_kubelet(self, path: str) -> None:
        self._met = Identity.of(path)
        try:
            async with asyncio.timeout(None) as self._calling:
                await register(path, self._settings.endpoint, self._plan.resource)
        except TimeoutError as error:
            raise KubeletError(f'cannot register at "{path}": a newer kubelet came') from error
        finally:
            self._calling = None

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
                registered=self._registered_with == self._kubelet,
                registrations=self._registrations,
                streams=self._servicer.streams,
                healthy=len(view.replicas) - unhealthy,
                unhealthy=unhealthy,
                replicas=replicas,
                list_bytes=self._shelf.list_bytes(),
                rpcs=self._servicer.rpcs.stats(),
                answering=self._endpoint.answering,
            )
        )
