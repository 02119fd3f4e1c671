"""A Kubernetes API server that answers with any bytes, for as long as the client reads."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.fakes.apiserver import ApiServer

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
NODE = json.dumps({"metadata": {"name": "node-1", "resourceVersion": "1"}}).encode()


@dataclass(frozen=True)
class Hostile:
    """The bytes of an answer: a head, and a piece that is repeated."""

    head: bytes
    piece: bytes = b""
    times: int = 1
    watch: bool = False
    """Whether only a watch is answered so; another request gets a node."""


def whole(body: bytes, more: bytes = b"", status: bytes = b"200 OK") -> Hostile:
    """Return an answer of known length; *more* are lines of its head."""
    head = OK.replace(b"200 OK", status) + more + b"Content-Length: %d\r\n\r\n" % len(body)
    return Hostile(head, body)


def endless(piece: bytes, *, watch: bool) -> Hostile:
    """Return an answer without an end, within reason."""
    return Hostile(OK + b"\r\n", piece, 1 << 12, watch)


@contextlib.asynccontextmanager
async def hostile_apiserver(answer: Hostile) -> AsyncIterator[ApiServer]:
    """Run the server; what is yielded only writes kubeconfigs for it."""
    serving: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(_serve(answer, reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield ApiServer(port=server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _serve(
    answer: Hostile, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while request := await reader.readuntil(b"\r\n\r\n"):
            if answer.watch and b"watch=true" not in request:
                node = whole(NODE)
                writer.write(node.head + node.piece)
                continue
            writer.write(answer.head)
            for _ in range(answer.times):
                writer.write(answer.piece)
                await writer.drain()
            if answer.times > 1:
                break  # the end of an answer without a length
