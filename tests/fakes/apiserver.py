"""A small Kubernetes API server with one node, its status and labels, Events, and a watch.

It is a real HTTP server on loopback, for the requests of the service only. It can fail on demand.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes import nodefeature
from tests.fakes.dra_objects import DraObjects
from tests.fakes.managed_labels import ManagedLabels
from tests.fakes.service import PATIENCE

Json = dict[str, Any]

REASONS = {200: "OK", 201: "Created", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}


@dataclass
class ApiServer:
    """The server and its state; tests may read and change all fields."""

    node: str = "node-1"
    labels: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, Json] = field(default_factory=dict)
    events: dict[str, Json] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """Method and path of each request, in order."""
    patches: list[Json] = field(default_factory=list)
    """The patches of the node's status, in order."""
    applied: list[Json] = field(default_factory=list)
    """What was applied to objects, in order, also in vain."""
    features: dict[str, Json] = field(default_factory=dict)
    """The NodeFeature objects of our namespace, by name."""
    pods: dict[str, Json] = field(default_factory=dict)
    dra: DraObjects = field(default_factory=DraObjects)
    forbidden: str = ""
    """Answer 403 to requests whose path or query has this part; empty: to none."""
    status: int = 0
    """Answer each request with this HTTP status; 0: answer normally."""
    hang: bool = False
    """Answer no request."""
    annotations: dict[str, str] = field(default_factory=dict)
    """Of the node."""
    taints: list[Json] = field(default_factory=list)
    conflicts: int = 0
    """So many writes of the taints come too late: others have changed the node."""
    gone: bool = False
    """End the next watch with an error: its version is too old."""
    version: int = 1
    labelled: int = 1
    """The version of the last change of the labels."""
    port: int = 0

    def __post_init__(self) -> None:
        self.managed = ManagedLabels(self.labels)
        self._news = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self.serving = False
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; after a stop, on the same port again."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.serving = True

    async def stop(self) -> None:
        """Close all connections, also during a request, and stop listening."""
        server, self._server = self._server, None
        self.serving = False
        if server:
            server.close()
            for writer in list(self._clients):
                writer.transport.abort()
            await self._changed()  # ends the watches
            for _ in range(10):  # turns of the loop until they have
                await asyncio.sleep(0)
            await server.wait_closed()

    def kubeconfig(self, folder: Path) -> dict[str, str]:
        """Write a kubeconfig for this server; return the environment that names it."""
        # Insecure: else each client would read the certificates of all authorities for 30 ms.
        cluster = {"server": f"http://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True}
        text = {
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": "none"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(text))
        return {"KUBECONFIG": str(path), "NO_PROXY": "*"}

    async def label(self, key: str, value: str | None) -> None:
        """Set or remove a label of the node, like `kubectl label`."""
        self.managed.set(key, value)
        self.labelled = self.version + 1
        await self._changed()

    async def until(self, what: str, holds: Callable[[], object]) -> None:
        """Wait until *holds* returns true; it is called after each request and change."""
        try:
            async with asyncio.timeout(PATIENCE), self._news:
                await self._news.wait_for(holds)
        except TimeoutError:
            raise AssertionError(f"no {what}; requests: {self.requests[-5:]}") from None

    def told(self, reason: str) -> list[Json]:
        """Return the Events with this *reason*."""
        return [event for event in self.events.values() if event["reason"] == reason]

    async def _changed(self) -> None:
        self.version += 1
        async with self._news:
            self._news.notify_all()

    def _node(self) -> Json:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.node,
                "uid": "uid-of-the-node",
                "managedFields": self.managed.fields(),
                "labels": dict(self.labels),
                "annotations": self.annotations,
                "resourceVersion": str(self.version),
            },
            "spec": {"taints": self.taints} if self.taints else {},
            "status": {"conditions": list(self.conditions.values())},
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while head := await reader.readuntil(b"\r\n\r\n"):
                    lines = head.decode().split("\r\n")
                    method, target, _ = lines[0].split(" ")
                    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                    body = await reader.readexactly(int(headers.get("content-length", 0)))
                    await self._answer(writer, method, target, body)
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, target: str, body: bytes
    ) -> None:
        url = urlsplit(target)
        self.requests.append(f"{method} {url.path}")
        if self.hang:
            await self._changed()
            await asyncio.Event().wait()
        status = 403 if self.forbidden and self.forbidden in target else self.status
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if status:
            _send(writer, status, _failure(status))
        elif "watch" in query:
            seconds = float(query["timeoutSeconds"])
            await self._watch(writer, int(query["resourceVersion"]), seconds)
        else:
            content = json.loads(body) if body else {}
            answer: tuple[int, Json] | None = None
            if found := self.dra.answer(url.path, query):
                answer = (200, found)
            elif "nodefeatures" in url.path or "pods" in url.path or "fieldManager" in query:
                answer = self._do_objects(method, url.path, content, query)
            _send(writer, *(answer or self._do(method, url.path, content)))
        await writer.drain()
        await self._changed()

    def _do(self, method: str, path: str, body: Json) -> tuple[int, Json]:
        events = "/api/v1/namespaces/default/events"
        match method, path.removeprefix(f"{events}/"):
            case "GET", path if path == f"/api/v1/nodes/{self.node}":
                return 200, self._node()
            case "PATCH", path if path == f"/api/v1/nodes/{self.node}/status":
                self.patches.append(body)
                for new in body["status"]["conditions"]:
                    self.conditions[new["type"]] = self.conditions.get(new["type"], {}) | new
                return 200, self._node()
            case "POST", path if path == events:
                name = body["metadata"]["name"]
                if name in self.events:
                    return 409, _failure(409)
                self.events[name] = body
                return 201, body
            case "PATCH", name if name in self.events:
                self.events[name] |= body
                return 200, self.events[name]
            case _:
                return 404, _failure(404)

    def _do_taints(self, body: Json) -> tuple[int, Json]:
        assert body["metadata"]["resourceVersion"]
        if self.conflicts:
            self.conflicts -= 1
            return 409, _failure(409)
        self.taints = body["spec"]["taints"]
        return 200, self._node()

    def _do_objects(
        self, method: str, path: str, body: Json, query: dict[str, str]
    ) -> tuple[int, Json] | None:
        """Answer about NodeFeatures, pods and the node's labels; None: about something else."""
        force = query.get("force") == "true"
        match method, path.split("/")[1:]:
            case "PATCH", ["api", "v1", "nodes", _] if "spec" in body:
                return self._do_taints(body)
            case "PATCH", ["api", "v1", "nodes", _]:
                self.applied.append(body)
                causes = self.managed.apply(
                    query["fieldManager"], body["metadata"]["labels"], force=force
                )
                if causes:
                    return 409, _failure(409) | {"details": {"causes": causes}}
                self.labelled = self.version + 1
                return 200, self._node()
            case "GET", ["api", "v1", "namespaces", _, "pods", name] if name in self.pods:
                return 200, self.pods[name]
            case _, ["apis", "nfd.k8s-sigs.io", "v1alpha1", "namespaces", _, _, name]:
                return self._do_feature(method, name, body)
            case _:
                return None

    def _do_feature(self, method: str, name: str, body: Json) -> tuple[int, Json]:
        if method == "PATCH":
            self.applied.append(body)
            if wrong := nodefeature.problem(body):
                return 422, _failure(422) | {"message": wrong}
            self.features[name] = body
            return 200, body
        if name not in self.features:
            return 404, _failure(404)
        found = self.features[name]
        if method == "DELETE":
            del self.features[name]
        return 200, found

    async def _watch(self, writer: asyncio.StreamWriter, version: int, seconds: float) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
        _chunk(writer, {"type": "BOOKMARK", "object": self._node()})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.serving and not self.gone and not writer.is_closing():
                    if self.labelled > version:
                        version = self.labelled
                        _chunk(writer, {"type": "MODIFIED", "object": self._node()})
                    async with self._news:
                        await self._news.wait()
                if not self.gone:
                    return
                self.gone = False
                _chunk(writer, {"type": "ERROR", "object": _failure(410)})
        writer.write(b"0\r\n\r\n")


def _failure(code: int) -> Json:
    text = f"the test says {code}"
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "message": text,
    }


def _send(writer: asyncio.StreamWriter, status: int, answer: Json) -> None:
    data = json.dumps(answer).encode()
    writer.write(
        f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n".encode()
        + data
    )


def _chunk(writer: asyncio.StreamWriter, event: Json) -> None:
    data = json.dumps(event).encode() + b"\n"
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


@contextlib.asynccontextmanager
async def apiserver(**state: Any) -> AsyncIterator[ApiServer]:
    """Run the server on loopback."""
    running = ApiServer(**state)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
