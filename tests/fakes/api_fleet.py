"""A stand-in API server for many nodes, which records what each request costs."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from tests.fakes.apiserver import ApiServer

NODE = re.compile(rb"node-\d+")

KINDS = (
    ("GET", "/api/v1/nodes?", "watch of the node"),
    ("GET", "/api/v1/nodes/", "read of the node"),
    ("PATCH", "/status?", "condition"),
    ("PATCH", "/api/v1/nodes/", "labels of the node"),
    ("POST", "/events", "Event, new"),
    ("PATCH", "/events", "Event, again"),
    ("GET", "/nodefeatures", "read of the NodeFeature"),
    ("PATCH", "/nodefeatures", "NodeFeature"),
)
"""Method, part of the path, and name of each kind of request."""


@dataclass
class Request:
    """A request and what it took."""

    at: float
    """On the clock of the loop."""
    node: str
    kind: str
    writes: bool
    up: int
    """Bytes of the request's body."""
    down: int = 0
    """Bytes of the answer."""


class _Counted:
    """A writer that counts bytes into a request."""

    def __init__(self, writer: asyncio.StreamWriter, request: Request) -> None:
        self._writer = writer
        self._request = request

    def write(self, data: bytes) -> None:
        self._request.down += len(data)
        self._writer.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class FleetServer(ApiServer):
    """One server for the nodes `node-0`, `node-1` and so on."""

    def __init__(self, names: Iterable[str], padding: int) -> None:
        """Serve the nodes with these *names*, each longer by *padding* bytes, as real ones are."""
        super().__init__()
        filler = {"filler": "x" * padding}
        self.nodes = {name: ApiServer(node=name, annotations=filler) for name in names}
        self.record: list[Request] = []

    async def start(self) -> None:
        """Listen; after a stop, on the same port again."""
        await super().start()
        for node in self.nodes.values():
            node.serving = True

    async def stop(self) -> None:
        """Close all connections and stop listening."""
        for node in self.nodes.values():
            node.serving = False
            await node._changed()  # noqa: SLF001 - ends its watches
        await super().stop()

    async def _answer(
        self, writer: asyncio.StreamWriter, method: str, target: str, body: bytes
    ) -> None:
        found = NODE.search(target.encode() + b" " + body)
        name = found.group().decode() if found else ""
        kind = next((what for how, part, what in KINDS if how == method and part in target), target)
        request = Request(asyncio.get_running_loop().time(), name, kind, method != "GET", len(body))
        self.record.append(request)
        counted = cast("asyncio.StreamWriter", _Counted(writer, request))
        await self.nodes[name]._answer(counted, method, target, body)  # noqa: SLF001
