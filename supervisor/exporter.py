"""The exporter process: HTTP for Prometheus and for the kubelet's probes.

It listens to the node's state on the health bus, to the workers' on the telemetry bus and to the
supervisor's on its channel, and answers /metrics, /livez, /readyz, /status and / from the newest of
each.
HTTP runs in threads, which only read one immutable snapshot.
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import zmq.asyncio
from loguru import logger
from prometheus_client import CollectorRegistry, make_wsgi_app

from proto import bus
from proto.channel import Channel, ClosedError
from proto.control import (
    BEAT_EVERY,
    Beat,
    ExitCode,
    ExporterSettings,
    NotReady,
    Ready,
    ServiceState,
    Stop,
)
from proto.messages import NodeState, WorkerState
from supervisor import pages
from supervisor.metrics import SnapshotCollector
from supervisor.snapshot import Snapshot, not_live, not_ready
from supervisor.status import About

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SILENT_CLIENT = 5.0
"""Seconds after which a client that sends nothing is hung up on."""


def main(settings: ExporterSettings, channel: Channel, epoch: int) -> int:
    """Live: listen to everybody, answer over HTTP, until told to stop."""
    del epoch  # nobody listens to us on the bus
    return asyncio.run(_live(settings, channel))


async def _live(settings: ExporterSettings, channel: Channel) -> int:
    exporter = Exporter(settings, channel)
    try:
        server = Server((settings.host, settings.port), exporter.application())
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        channel.send(NotReady(reason=f'cannot listen on "{address}" for HTTP: {error.strerror}'))
        return ExitCode.NOT_READY
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    _leave(server.url, Path(settings.url_file))
    logger.info("metrics", url=f"{server.url}/metrics")
    return await exporter.run()


def _leave(url: str, path: Path) -> None:
    """Write the file in one piece: somebody may be reading it."""
    new = path.with_suffix(".new")
    new.write_text(url)
    new.replace(path)


class Server(ThreadingMixIn, WSGIServer):
    """An HTTP server with a thread for each connection."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], application: "WSGIApplication") -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        """Bind, without the look-up of our own name, which could wait for a name server."""
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    @property
    def url(self) -> str:
        """Where this server is, for a client on this machine."""
        ours = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - to be reached, not to bind
        name = f"[{self.server_name}]" if ":" in self.server_name else self.server_name
        return f"http://{ours.get(self.server_name, name)}:{self.server_port}"


class _Handler(WSGIRequestHandler):
    timeout = SILENT_CLIENT

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing: a line for each scrape would drown the others."""


class Exporter:
    """Keeps the newest snapshot, from the start to the order to stop."""

    def __init__(self, settings: ExporterSettings, channel: Channel) -> None:
        self._settings = settings
        self._channel = channel
        self._snapshot = Snapshot()
        self._stop = asyncio.get_running_loop().create_future()
        context = zmq.asyncio.Context()
        self._health = bus.health_subscriber(context, settings.paths.health_bus)
        self._telemetry = bus.telemetry_subscriber(context, settings.paths.telemetry_bus)

    async def run(self) -> int:
        """Listen until the order to stop, or the supervisor's end, which is one."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._on_readable)
        self._channel.send(Ready())
        async with asyncio.TaskGroup() as group:
            endless = (self._follow(self._health), self._follow(self._telemetry), self._beat())
            tasks = [group.create_task(one) for one in endless]
            await self._stop
            for task in tasks:
                task.cancel()
        return ExitCode.DONE

    async def _follow(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            match await bus.receive(socket):
                case NodeState() as node:
                    self._snapshot = replace(self._snapshot, node=node, node_at=time.monotonic())
                case WorkerState() as worker:
                    self._on_worker(worker)

    def _on_worker(self, worker: WorkerState) -> None:
        workers = dict(self._snapshot.workers)
        known = workers.get(worker.resource)
        if known is None or worker.age > known[0].age:
            workers[worker.resource] = (worker, time.monotonic())
            self._snapshot = replace(self._snapshot, workers=workers)

    def _on_readable(self) -> None:
        try:
            while order := self._channel.receive():
                match order:
                    case ServiceState():
                        now = time.monotonic()
                        self._snapshot = replace(self._snapshot, service=order, service_at=now)
                    case Stop():
                        self._on_stop()
                    case _:
                        logger.error("an order that is not for us", order=type(order).__name__)
        except ClosedError:
            self._on_stop()

    def _on_stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        if not self._stop.done():
            self._stop.set_result(None)

    async def _beat(self) -> None:
        while True:
            self._channel.send(Beat())
            await asyncio.sleep(BEAT_EVERY)

    def application(self) -> "WSGIApplication":
        """Return what answers the HTTP requests."""
        registry = CollectorRegistry()
        registry.register(SnapshotCollector(lambda: self._snapshot, self._settings.version))
        metrics = make_wsgi_app(registry)

        def answer(environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
            match environ["PATH_INFO"]:
                case "/metrics":
                    page: Iterable[bytes] = metrics(environ, start)
                    return page
                case "/livez":
                    return self._probe(not_live, start)
                case "/readyz":
                    return self._probe(not_ready, start)
                case path:
                    return self._page(path, start)

        return answer

    def _probe(
        self, judge: Callable[[Snapshot, float, float], list[str]], start: "StartResponse"
    ) -> Iterable[bytes]:
        problems = judge(self._snapshot, time.monotonic(), self._settings.stale_after)
        status = "503 Service Unavailable" if problems else "200 OK"
        return _json(start, status, {"ok": not problems, "problems": problems})

    def _page(self, path: str, start: "StartResponse") -> Iterable[bytes]:
        about = About(self._settings.version, self._settings.stale_after)
        if answer := pages.answer(path, self._snapshot, about):
            start("200 OK", list(answer.headers))
            return [answer.body]
        return _json(start, "404 Not Found", {"error": f"no {path} here"})


def _json(start: "StartResponse", status: str, body: object) -> Iterable[bytes]:
    start(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode() + b"\n"]
