"""What the exporter answers to HTTP requests, from the newest snapshot."""

import os
import time
from collections.abc import Callable, Iterator

import msgspec

from proto.exporter import ExporterSettings
from supervisor.exporter import hosts
from supervisor.exporter.exposition import Exposition
from supervisor.exporter.family import Sample
from supervisor.exporter.formats import choose
from supervisor.exporter.http_auth import Guard
from supervisor.exporter.messages import Request, Response, plain
from supervisor.exporter.process_usage import usage
from supervisor.exporter.samples import samples
from supervisor.exporter.shared import Shared, packed
from supervisor.status.page import POLICY, page
from supervisor.status.probes import not_live, not_ready
from supervisor.status.snapshot import Snapshot
from supervisor.status.status import About, status
from supervisor.status.usage_history import History

PATHS = "there are /, /status, /metrics, /livez and /readyz"

SHOWN = 100
"""Most characters of a name in a request that an error repeats."""


class Pages:
    """Answers requests. Bodies that take long to make are shared; the probes are always new."""

    def __init__(
        self, settings: ExporterSettings, guard: Guard, newest: Callable[[], Snapshot]
    ) -> None:
        """Answer from the snapshot that *newest* returns, to whom *guard* permits it."""
        self._guard = guard
        self._newest = newest
        self._names = frozenset((*settings.allowed_hosts, os.uname().nodename))
        self._stale_after = settings.stale_after
        self._about = About(
            settings.version,
            settings.stale_after,
            settings.backend,
            settings.pod_labels,
            settings.watches_gpus,
            settings.node_name,
            os.uname().nodename,
        )
        self._exposition = Exposition()
        self._shared = Shared()
        self.history = History()
        """The last hour of usage; who receives samples adds them."""

    def answer(self, request: Request) -> Response:
        """Answer a request."""
        match request.path:
            case "/livez":
                return self._probe(request, not_live)
            case "/readyz":
                return self._probe(request, not_ready)
            case _ if not self._is_ours(request):
                host = request.headers["host"][:SHOWN]
                why = f'cannot answer for host "{host}": add it to --metrics-allowed-hosts'
                return plain(421, {"error": why})
            case _ if not self._guard.permits(request):
                error = {"error": "cannot answer: send a valid client certificate or bearer token"}
                return plain(401, error, ("WWW-Authenticate", "Bearer"))
            case "/metrics":
                return self._metrics(request)
            case "/" | "/status" as path:
                made = self._shared.body(path, lambda: self._show(path), fresh=request.local)
                return shown(path, made.body)
            case path:
                return plain(404, {"error": f"cannot find {path[:SHOWN]}: {PATHS}"})

    def _is_ours(self, request: Request) -> bool:
        return request.local or hosts.is_ours(request.headers.get("host", ""), self._names)

    def _metrics(self, request: Request) -> Response:
        encode, kind = choose(request.headers.get("accept", ""))

        def make() -> bytes:
            return self._exposition.body(self._samples(), encode, kind)

        made = self._shared.body(kind, make, fresh=request.local)
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(200, [("Content-Type", kind)], made.body)
        headers = [("Content-Type", kind), ("Content-Encoding", "gzip")]
        return Response(200, headers, packed(made))

    def _samples(self) -> Iterator[Sample]:
        snapshot = self._newest()
        service = snapshot.service
        pids = {process.name: process.pid for process in service.processes} if service else {}
        used = usage({"supervisor": os.getppid(), **pids})
        return samples(snapshot, self._about, used, time.monotonic(), time.time())

    def _show(self, path: str) -> bytes:
        return render(path, self._newest(), self._about, self.history)

    def _probe(
        self, request: Request, judge: Callable[[Snapshot, float, float], list[str]]
    ) -> Response:
        problems = judge(self._newest(), time.monotonic(), self._stale_after)
        told = self._is_ours(request) and self._guard.permits(request)
        return plain(
            503 if problems else 200, {"ok": not problems, "problems": problems if told else []}
        )


def render(path: str, snapshot: Snapshot, about: About, history: History) -> bytes:
    """Return the status as HTML for the *path* /, otherwise as JSON."""
    now = time.monotonic()
    known = status(snapshot, about, now, time.time())
    if path != "/":
        return msgspec.json.encode(known) + b"\n"
    hours = history.hours((gpu.uuid for gpu in known.gpus or ()), now)
    return page(known, hours).encode()


def shown(path: str, body: bytes) -> Response:
    """Return the response for the *path* / or /status with this *body*."""
    if path == "/":
        kind = "text/html; charset=utf-8"
        return Response(200, (("Content-Type", kind), ("Content-Security-Policy", POLICY)), body)
    return Response(200, (("Content-Type", "application/json"),), body)
