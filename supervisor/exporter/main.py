"""The exporter process: HTTP for Prometheus, for the kubelet's probes and for people.

It receives the node's state on the health bus, the workers' states on the telemetry bus and the
supervisor's state on its channel, and asks the kubelet which containers hold devices. From the
newest of each it answers /metrics, /livez, /readyz, /status and /. One asyncio loop, no threads.
"""

import asyncio
import contextlib
import errno
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import zmq
from loguru import logger

from proto import bus
from proto.channel import Channel
from proto.child_loop import ChildLoop, Ending
from proto.control import ExitCode, NotReady, ServiceState
from proto.exporter import ExporterSettings
from proto.folder import Folder
from proto.host import Identity
from proto.messages import NodeState, WorkerState
from proto.mps_listener import MpsListener
from proto.texts import shortened
from supervisor.exporter import dra_log, http_auth, http_server
from supervisor.exporter.door import Door
from supervisor.exporter.held_reports import HeldReports
from supervisor.exporter.pages import Pages
from supervisor.exporter.usage_lookup import UsageLookup
from supervisor.exporter.withheld_reports import WithheldReports
from supervisor.status import dra
from supervisor.status.allocations import Held, split
from supervisor.status.snapshot import Snapshot

if TYPE_CHECKING:
    from supervisor.exporter.pod_resources import PodResources


def main(settings: ExporterSettings, channel: Channel, epoch: int) -> int:
    """Run the exporter until it is told to stop; return the exit code."""
    del epoch  # the exporter publishes nothing on the bus
    return asyncio.run(live(settings, channel))


async def live(settings: ExporterSettings, channel: Channel) -> int:
    """Run the exporter in this process's loop until it is told to stop; return the exit code."""
    try:
        exporter = Exporter(settings, channel, http_auth.read(settings.guard))
    except http_auth.GuardError as error:
        channel.send(NotReady(reason=shortened(str(error))))
        return ExitCode.NOT_READY
    try:
        server, url = await exporter.serve()
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        # Not str(error): asyncio adds the address again. Failed look-ups have codes below 0.
        number = error.errno or 0
        why = os.strerror(number) if number > 0 else error.strerror
        do = "; free the port, or set another --metrics-address" * (number == errno.EADDRINUSE)
        reason = f'cannot listen on "{address}" for HTTP: {why}{do}'
        channel.send(NotReady(reason=shortened(reason)))
        return ExitCode.NOT_READY
    address = f"{settings.host}:{settings.port}"
    logger.info("serving metrics", address=address, url=f"{url}/metrics")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        local = Path(settings.local_socket)
        folder = stack.enter_context(Folder.existing(local.parent))
        try:
            await stack.enter_async_context(await exporter.serve_locally(folder.at(local.name)))
        except OSError as error:
            logger.warning(
                "cannot create the socket for the status command",
                error=error.strerror or str(error),
            )
        _leave(url, Path(settings.url_file))
        return await exporter.run()


def _leave(url: str, path: Path) -> None:
    """Write the file atomically: a client may be reading it. Commands do without it."""
    with Folder.existing(path.parent) as folder:
        try:
            folder.write(path.name, url.encode())
        except OSError as error:
            with contextlib.suppress(OSError):
                folder.remove(path.name)  # an older URL would be wrong
            logger.warning(
                "cannot write the file with the URL of the metrics",
                path=str(path),
                error=error.strerror,
            )


class Exporter:
    """Keeps the newest snapshot and answers HTTP requests from it."""

    def __init__(
        self, settings: ExporterSettings, channel: Channel, watchman: http_auth.Guard
    ) -> None:
        self._settings = settings
        self._guard = watchman
        self._guard_problem = ""
        self._booked: dict[str, str] = {}
        """Who holds advertised devices through DRA, as it was logged."""
        self._snapshot = Snapshot()
        self._pages = Pages(settings, watchman, lambda: self._snapshot)
        self._pods = self._asks_for_pods()
        self._life = ChildLoop(channel, {ServiceState: self._on_service}, self._on_beat)
        context = zmq.Context()
        self._health = bus.health_subscriber(context, settings.paths.health_bus, usage=True)
        self._mps = MpsListener(context, settings.paths.mps_bus, self._on_mps)
        self._usage = UsageLookup(settings.usage_roots, wanted=settings.pod_usage)
        self._telemetry = bus.telemetry_subscriber(context, settings.paths.telemetry_bus)
        self._telemetry_file = Identity.of(settings.paths.telemetry_bus)
        self._withheld = _withheld(settings, channel)
        self._held = HeldReports(channel, wanted=settings.tell_held)

    async def run(self) -> int:
        """Receive states until told to stop, or until the supervisor dies; return the exit code."""
        ending = await self._life.run(
            self._follow_monitor,
            self._follow_workers,
            self._follow_pods,
            self._follow_usage,
            self._mps.follow,
        )
        return ending.code

    async def serve(self) -> tuple[Door, str]:
        """Start the HTTP server; return it and its URL. OSError if the address cannot be used."""
        address = (self._settings.host, self._settings.port)
        return await http_server.serve(address, self._pages.answer, self._guard.context)

    async def serve_locally(self, path: str) -> asyncio.Server:
        """Serve on the unix socket at *path*; OSError if it cannot be created."""
        return await http_server.serve_locally(path, self._pages.answer)

    async def _follow_monitor(self) -> None:
        async for state in bus.monitor_states(self._health):
            now = time.monotonic()
            if isinstance(state, NodeState):
                before = self._snapshot.node
                self._snapshot = replace(self._snapshot, node=state, node_at=now)
                if self._withheld and before and before.epoch != state.epoch:
                    self._withheld.report(now, again=True)  # a new monitor knows nothing of it
            else:
                self._usage.take(state, now)
                self._pages.history.add(state, now)

    async def _follow_usage(self) -> None:
        while True:
            usage = await self._usage.next()
            self._snapshot = replace(self._snapshot, usage=usage)
            if self._withheld and self._withheld.look(self._snapshot):
                self._look_at_pods()

    async def _follow_workers(self) -> None:
        while True:
            state = await bus.receive(self._telemetry)
            if isinstance(state, WorkerState):
                self._on_worker(state)

    def _asks_for_pods(self) -> "PodResources | None":
        """Return what asks the kubelet for its pods; None: nothing does."""
        if not self._settings.pod_resources_socket:
            return None
        # Not above: gRPC takes 10 MiB, which a node without a GPU does not need.
        from supervisor.exporter.pod_resources import PodResources  # noqa: PLC0415

        return PodResources(self._settings.pod_resources_socket, self._planned, self._uuids)

    def _look_at_pods(self) -> None:
        if self._pods:
            self._pods.look()

    async def _follow_pods(self) -> None:
        if self._pods is None:
            await asyncio.Event().wait()
            return
        while True:
            held = await self._pods.next()
            self._snapshot = self._listed(held)
            self._log_dra()
            self._held.tell(self._snapshot, time.monotonic())
            if self._withheld and held is not None:
                self._withheld.listed(self._pods.asked)
                self._withheld.look(self._snapshot)

    def _log_dra(self) -> None:
        """Log who holds devices through DRA, unless the monitor does, as it withholds them."""
        if not self._settings.hold_dra:
            before, self._booked = self._booked, dra.told(self._snapshot.booked_twice())
            dra_log.changes(before, self._booked)

    def _listed(self, held: Held | None) -> Snapshot:
        if held is None:
            # What is held through DRA stays withheld: the kubelet may only be restarting.
            return replace(self._snapshot, allocations=None, foreign=())
        ours, foreign = split(held.devices, self._planned())
        return replace(self._snapshot, allocations=ours, foreign=foreign, dynamic=held.dynamic)

    def _planned(self) -> frozenset[str]:
        service = self._snapshot.service
        return frozenset((service and service.planned) or ())

    def _uuids(self) -> frozenset[str]:
        return self._snapshot.uuids()

    def _on_worker(self, worker: WorkerState) -> None:
        workers = dict(self._snapshot.workers)
        known = workers.get(worker.resource)
        if known is None or worker.age > known[0].age:
            workers[worker.resource] = (worker, time.monotonic())
            self._snapshot = replace(self._snapshot, workers=workers)
            if known is None or _allocations(worker) != _allocations(known[0]):
                self._look_at_pods()
                if self._withheld:
                    self._withheld.allocated(worker.replicas)

    def _on_service(self, state: ServiceState) -> None:
        self._snapshot = replace(self._snapshot, service=state, service_at=time.monotonic())
        self._mps.want(state.mps)
        self._on_mps()

    def _on_mps(self) -> None:
        self._snapshot = replace(self._snapshot, mps=self._mps.word)

    def _on_beat(self) -> None:
        self._held.tell(self._snapshot, time.monotonic())
        if self._withheld:
            self._withheld.tend(self._snapshot)
        if Identity.of(self._settings.paths.telemetry_bus) != self._telemetry_file:
            logger.warning("restarting the exporter: its telemetry socket was deleted or replaced")
            self._life.end(Ending(ExitCode.AGAIN))
        elif self._guard.is_old():
            self._on_new_files()

    def _on_new_files(self) -> None:
        """End for a new process that reads the new files; keep the old ones if they are invalid."""
        try:
            http_auth.read(self._settings.guard)
        except http_auth.GuardError as error:
            if str(error) != self._guard_problem:
                logger.error(
                    "cannot use the new certificate or token, keeping the old one",
                    reason=str(error),
                )
            self._guard_problem = str(error)
            return
        logger.info("restarting the exporter: a certificate or the token changed")
        self._life.end(Ending(ExitCode.AGAIN))


def _withheld(settings: ExporterSettings, channel: Channel) -> WithheldReports | None:
    """Return the reports; None: occupied devices, and those held through DRA, are only shown."""
    if not (settings.hold_occupied or settings.hold_dra):
        return None
    return WithheldReports(
        channel,
        settings.stale_after,
        hold_occupied=settings.hold_occupied,
        hold_dra=settings.hold_dra,
    )


def _allocations(worker: WorkerState) -> tuple[int, int]:
    """Return what changes when devices may have new holders: Allocate calls, and registrations.

    A kubelet that has just started may not know yet who holds devices.
    """
    calls = sum(rpc.buckets[-1] for rpc in worker.rpcs if rpc.method == "Allocate")
    return calls, worker.registrations
