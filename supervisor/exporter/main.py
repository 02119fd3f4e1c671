"""The exporter process: HTTP for Prometheus, for the kubelet's probes and for people.

It receives the node's state on the health bus, the workers' states on the telemetry bus and the
supervisor's state on its channel, and asks the kubelet which containers hold devices. From the
newest of each it answers /metrics, /livez, /readyz, /status and /. One asyncio loop, no threads.
"""

import asyncio
import contextlib
import gzip
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import zmq.asyncio
from loguru import logger
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from proto import bus
from proto.channel import Channel
from proto.child_loop import ChildLoop, Ending
from proto.control import ExitCode, NotReady, ServiceState
from proto.exporter import ExporterSettings, HttpGuard
from proto.folder import Folder
from proto.host import Identity
from proto.messages import WorkerState
from proto.texts import shortened
from supervisor.exporter import http_auth, http_server
from supervisor.exporter.metrics import SampleCollector
from supervisor.exporter.pod_resources import PodResources
from supervisor.exporter.process_usage import usage
from supervisor.exporter.samples import Sample, samples
from supervisor.status.page import POLICY, page
from supervisor.status.probes import not_live, not_ready
from supervisor.status.report import Status
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About, status

FASTEST_GZIP = 1

PATHS = "there are /, /status, /metrics, /livez and /readyz"


def main(settings: ExporterSettings, channel: Channel, epoch: int) -> int:
    """Run the exporter until it is told to stop; return the exit code."""
    del epoch  # the exporter publishes nothing on the bus
    return asyncio.run(_live(settings, channel))


async def _live(settings: ExporterSettings, channel: Channel) -> int:
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
        reason = f'cannot listen on "{address}" for HTTP: {why}'
        channel.send(NotReady(reason=shortened(reason)))
        return ExitCode.NOT_READY
    address = f"{settings.host}:{settings.port}"
    logger.info("serving metrics", address=address, url=f"{url}/metrics")
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        if settings.guard != HttpGuard():
            file = Path(settings.local_socket)
            folder = stack.enter_context(Folder.existing(file.parent))
            local = await http_server.serve_locally(folder.at(file.name), exporter.answer)
            await stack.enter_async_context(local)
            url = f"unix:{settings.local_socket}"
        _leave(url, Path(settings.url_file))
        return await exporter.run()


def _leave(url: str, path: Path) -> None:
    with Folder.existing(path.parent) as folder:
        folder.write(path.name, url.encode())


class Exporter:
    """Keeps the newest snapshot and answers HTTP requests from it."""

    def __init__(
        self, settings: ExporterSettings, channel: Channel, watchman: http_auth.Guard
    ) -> None:
        self._settings = settings
        self._guard = watchman
        self._guard_problem = ""
        self._snapshot = Snapshot()
        self._about = About(
            settings.version, settings.stale_after, settings.backend, settings.pod_labels
        )
        self._registry = CollectorRegistry()
        self._registry.register(SampleCollector(self._samples))
        self._pods = PodResources(settings.pod_resources_socket, self._planned)
        self._life = ChildLoop(channel, {ServiceState: self._on_service}, self._on_beat)
        context = zmq.asyncio.Context()
        self._health = bus.health_subscriber(context, settings.paths.health_bus)
        self._telemetry = bus.telemetry_subscriber(context, settings.paths.telemetry_bus)
        self._telemetry_file = Identity.of(settings.paths.telemetry_bus)

    async def run(self) -> int:
        """Receive states until told to stop, or until the supervisor dies; return the exit code."""
        ending = await self._life.run(self._follow_node, self._follow_workers, self._follow_pods)
        return ending.code

    async def serve(self) -> tuple[asyncio.Server, str]:
        """Start the HTTP server; return it and its URL. OSError if the address cannot be used."""
        address = (self._settings.host, self._settings.port)
        return await http_server.serve(address, self.answer, self._guard.context)

    async def _follow_node(self) -> None:
        async for node in bus.node_states(self._health):
            self._snapshot = replace(self._snapshot, node=node, node_at=time.monotonic())

    async def _follow_workers(self) -> None:
        while True:
            state = await bus.receive(self._telemetry)
            if isinstance(state, WorkerState):
                self._on_worker(state)

    async def _follow_pods(self) -> None:
        while True:
            allocations = await self._pods.next()
            self._snapshot = replace(self._snapshot, allocations=allocations)

    def _planned(self) -> frozenset[str]:
        service = self._snapshot.service
        return frozenset((service and service.planned) or ())

    def _on_worker(self, worker: WorkerState) -> None:
        workers = dict(self._snapshot.workers)
        known = workers.get(worker.resource)
        if known is None or worker.age > known[0].age:
            workers[worker.resource] = (worker, time.monotonic())
            self._snapshot = replace(self._snapshot, workers=workers)
            if known is None or _allocated(worker) != _allocated(known[0]):
                self._pods.look()

    def _on_service(self, state: ServiceState) -> None:
        self._snapshot = replace(self._snapshot, service=state, service_at=time.monotonic())

    def _on_beat(self) -> None:
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

    def answer(self, request: http_server.Request) -> http_server.Response:
        """Answer an HTTP request from the newest snapshot."""
        match request.path:
            case "/livez":
                return self._probe(request, not_live)
            case "/readyz":
                return self._probe(request, not_ready)
            case _ if not self._guard.permits(request):
                error = {"error": "cannot answer: send a valid client certificate or bearer token"}
                return http_server.plain(401, error, ("WWW-Authenticate", "Bearer"))
            case "/metrics":
                return self._metrics(request)
            case path:
                shown = show(path, self._snapshot, self._about)
                return shown or http_server.plain(404, {"error": f"cannot find {path}: {PATHS}"})

    def _metrics(self, request: http_server.Request) -> http_server.Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        body = encode(self._registry)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return http_server.Response(200, [("Content-Type", kind)], body)
        headers = [("Content-Type", kind), ("Content-Encoding", "gzip")]
        return http_server.Response(200, headers, gzip.compress(body, FASTEST_GZIP))

    def _samples(self) -> Iterator[Sample]:
        service = self._snapshot.service
        pids = {process.name: process.pid for process in service.processes} if service else {}
        used = usage({"supervisor": os.getppid(), **pids})
        return samples(self._snapshot, self._about, used, time.monotonic(), time.time())

    def _probe(
        self, request: http_server.Request, judge: Callable[[Snapshot, float, float], list[str]]
    ) -> http_server.Response:
        problems = judge(self._snapshot, time.monotonic(), self._settings.stale_after)
        body = {"ok": not problems, "problems": problems if self._guard.permits(request) else []}
        return http_server.plain(503 if problems else 200, body)


def _allocated(worker: WorkerState) -> int:
    """Return how many Allocate calls the worker answered."""
    return sum(rpc.buckets[-1] for rpc in worker.rpcs if rpc.method == "Allocate")


def show(path: str, snapshot: Snapshot, about: About) -> http_server.Response | None:
    """Return the status as JSON for /status, as HTML for /; None for any other *path*."""
    match path:
        case "/status":
            body = msgspec.json.encode(_status(snapshot, about)) + b"\n"
            return http_server.Response(200, (("Content-Type", "application/json"),), body)
        case "/":
            kind, body = "text/html; charset=utf-8", page(_status(snapshot, about)).encode()
            headers = (("Content-Type", kind), ("Content-Security-Policy", POLICY))
            return http_server.Response(200, headers, body)
        case _:
            return None


def _status(snapshot: Snapshot, about: About) -> Status:
    return status(snapshot, about, time.monotonic(), time.time())
