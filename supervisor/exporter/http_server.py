"""The exporter's HTTP server: uvicorn's protocol in the exporter's own asyncio loop.

Not uvicorn's own server: it takes over the process's signals and wakes up ten times a second.
Slow, silent or very many clients do not disturb others: a request that is not finished in time is
cut off, and with too many connections the oldest one is closed.
"""

import asyncio
import json
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from supervisor.exporter.own_errors import OwnErrors
from supervisor.exporter.tls_gate import Counted, Gate

if TYPE_CHECKING:
    from collections.abc import Iterable

REQUEST_WITHIN = 5.0
"""Seconds from the connection, or from the first byte of a later request, to the whole answer."""

CONNECTIONS = 256
"""Maximum number of open connections."""

LONGEST_HEADERS = 16 << 10
"""Maximum bytes of a request's headers."""

ALWAYS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every answer: do not cache it, do not guess another content type."""

Message = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD."""

    path: str
    headers: dict[str, str]
    """By name in lower case; the last value wins if a name repeats."""
    local: bool = False
    """Whether it came over a unix socket."""
    certified: bool = False
    """Whether the client has a certificate that TLS verified."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request."""

    status: int
    headers: "Iterable[tuple[str, str]]"
    body: bytes


def plain(status: int, body: object, *headers: tuple[str, str]) -> Response:
    """Return a response with *body* as JSON."""
    text = json.dumps(body).encode() + b"\n"
    return Response(status, [("Content-Type", "application/json"), *headers], text)


async def serve(
    address: tuple[str, int],
    answer: Callable[[Request], Response],
    context: ssl.SSLContext | None = None,
) -> tuple[asyncio.Server, str]:
    """Serve what *answer* returns on host and port; return the server and its URL.

    With a *context* it serves HTTPS. Raise OSError if the address cannot be used.
    """
    listener = _listener(*address)
    server = await asyncio.get_running_loop().create_server(
        _connections(answer, context), sock=listener
    )
    host, port = listener.getsockname()[:2]
    # Bound to all IPv4 and IPv6 addresses; the node may have no IPv6.
    return server, _url("https" if context else "http", host if address[0] else "127.0.0.1", port)


async def serve_locally(path: str, answer: Callable[[Request], Response]) -> asyncio.Server:
    """Serve what *answer* returns on a unix socket; its file mode limits the clients."""
    return await asyncio.get_running_loop().create_unix_server(_connections(answer), path)


def _connections(
    answer: Callable[[Request], Response], context: ssl.SSLContext | None = None
) -> Callable[[], asyncio.Protocol]:
    logging.getLogger("uvicorn.error").propagate = False  # we log ourselves
    logging.getLogger("uvicorn.error").addHandler(logging.NullHandler())
    config = uvicorn.Config(
        _application(answer),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(REQUEST_WITHIN),
        h11_max_incomplete_event_size=LONGEST_HEADERS,
    )
    config.load()
    state, connections = ServerState(), dict[Counted, None]()

    def accept(client: Counted) -> None:
        connections[client] = None
        if len(connections) > CONNECTIONS:
            next(iter(connections)).hang_up()

    def connection() -> _Connection:
        return _Connection(config, state, connections, accept)

    if context is None:
        return connection
    return lambda: Gate(context, REQUEST_WITHIN, connection, connections, accept)


def _listener(host: str, port: int) -> socket.socket:
    """Return a bound socket; an IP address is not looked up, as a name server may not answer."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not host:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    flags = socket.AI_NUMERICHOST if host.replace(".", "").isdigit() or ":" in host else 0
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags)
    return socket.create_server(found[0][4][:2], family=family)


def _url(scheme: str, host: str, port: int) -> str:
    """Return the URL of the server for a client on this machine."""
    ours = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be reached, not to bind
    name = ours.get(host, host)
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def _application(
    answer: Callable[[Request], Response],
) -> Callable[..., Awaitable[None]]:
    errors = OwnErrors()

    async def application(
        scope: Message, receive: object, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        del receive  # the body of a request is ignored
        try:
            response = _response(scope, answer)
        except Exception as error:  # noqa: BLE001 - the client gets an answer, the log the error
            errors.log(scope["path"], error, time.monotonic())
            response = plain(500, {"error": "cannot answer: an error in the exporter; see its log"})
        length = (b"content-length", str(len(response.body)).encode())
        given = {name.lower(): value for name, value in response.headers}
        headers = [(name.encode(), value.encode()) for name, value in (ALWAYS | given).items()]
        start = {"type": "http.response.start", "status": response.status}
        await send({**start, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": response.body})

    return application


def _response(scope: Message, answer: Callable[[Request], Response]) -> Response:
    if scope["method"] not in {"GET", "HEAD"}:
        error = {"error": f"cannot answer {scope['method']}: use GET or HEAD"}
        return plain(405, error, ("Allow", "GET, HEAD"))
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return answer(Request(scope["path"], headers, **scope["state"]))


class _Connection(H11Protocol):
    """A connection that closes itself if its client is too slow."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        connections: dict[Counted, None],
        accept: Callable[[Counted], None],
    ) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._open = connections
        self._accept = accept
        self._deadline: asyncio.TimerHandle | None = None

    # The signature is uvicorn's, whose transport type is narrower than asyncio's.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {
            "local": transport.get_extra_info("socket").family is socket.AF_UNIX,
            "certified": bool(transport.get_extra_info("peercert")),
        }
        self._accept(self)
        self._begin()

    def data_received(self, data: bytes) -> None:
        self._begin()
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._end()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._open.pop(self, None)
        super().connection_lost(exc)

    def _begin(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_WITHIN, self.hang_up)

    def _end(self) -> None:
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def hang_up(self) -> None:
        """Close the connection at once, even in the middle of an answer."""
        self._open.pop(self, None)
        self.transport.abort()
