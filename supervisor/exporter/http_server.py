"""The exporter's HTTP server: uvicorn's protocol in the loop that the exporter has anyway.

Not uvicorn's own server: that one takes the process's signals and wakes up ten times a second.
A client that is slow, silent or one of very many costs others nothing: whoever has not finished a
request in time is hung up on, and when there are too many the one that came first is.
"""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from collections.abc import Iterable

REQUEST_WITHIN = 5.0
"""Seconds from the connection, or the first byte of a further request, to the end of the answer."""

CONNECTIONS = 256
"""Open connections, at most."""

LONGEST_HEADERS = 16 << 10
"""Bytes of a request's head."""

ALWAYS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every answer: it is of this moment, and is what it says it is."""

Message = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class Request:
    """A GET or HEAD."""

    path: str
    headers: dict[str, str]
    """By name in lower case; the last of several of one name."""
    local: bool = False
    """Whether it came over a unix socket."""
    certified: bool = False
    """Whether its client has shown a certificate, which TLS has verified."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer."""

    status: int
    headers: "Iterable[tuple[str, str]]"
    body: bytes


def plain(status: int, body: object, *headers: tuple[str, str]) -> Response:
    """Return *body* as JSON."""
    text = json.dumps(body).encode() + b"\n"
    return Response(status, [("Content-Type", "application/json"), *headers], text)


async def serve(
    address: tuple[str, int],
    answer: Callable[[Request], Response],
    context: ssl.SSLContext | None = None,
) -> tuple[asyncio.Server, str]:
    """Serve what *answer* returns on host and port; return the server and its URL.

    OSError where the address cannot be had. With a *context* it speaks HTTPS.
    """
    listener = _listener(*address)
    handshake = REQUEST_WITHIN if context else None
    server = await asyncio.get_running_loop().create_server(
        _connections(answer), sock=listener, ssl=context, ssl_handshake_timeout=handshake
    )
    host, port = listener.getsockname()[:2]
    # Bound to all addresses of both kinds, of which a node may have only the older.
    return server, _url("https" if context else "http", host if address[0] else "127.0.0.1", port)


async def serve_locally(path: str, answer: Callable[[Request], Response]) -> asyncio.Server:
    """Serve what *answer* returns on a unix socket, for those who may open it."""
    return await asyncio.get_running_loop().create_unix_server(_connections(answer), path)


def _connections(answer: Callable[[Request], Response]) -> "Callable[[], _Connection]":
    logging.getLogger("uvicorn.error").propagate = False  # we say ourselves what there is to say
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
    state, connections = ServerState(), dict[_Connection, None]()
    return lambda: _Connection(config, state, connections)


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, without a look-up that could wait for a name server."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not host:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    flags = socket.AI_NUMERICHOST if host.replace(".", "").isdigit() or ":" in host else 0
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags)
    return socket.create_server(found[0][4][:2], family=family)


def _url(scheme: str, host: str, port: int) -> str:
    """Return where the server is, for a client on this machine."""
    ours = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to be reached, not to bind
    name = ours.get(host, host)
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def _application(
    answer: Callable[[Request], Response],
) -> Callable[..., Awaitable[None]]:
    async def application(
        scope: Message, receive: object, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        del receive  # a body has no meaning here
        response = _response(scope, answer)
        length = (b"content-length", str(len(response.body)).encode())
        given = {name.lower(): value for name, value in response.headers}
        headers = [(name.encode(), value.encode()) for name, value in (ALWAYS | given).items()]
        start = {"type": "http.response.start", "status": response.status}
        await send({**start, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": response.body})

    return application


def _response(scope: Message, answer: Callable[[Request], Response]) -> Response:
    if scope["method"] not in {"GET", "HEAD"}:
        error = {"error": f"cannot {scope['method']} here: only GET and HEAD"}
        return plain(405, error, ("Allow", "GET, HEAD"))
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    return answer(Request(scope["path"], headers, **scope["state"]))


class _Connection(H11Protocol):
    """A connection that ends by itself if its client does not get on."""

    def __init__(
        self, config: uvicorn.Config, state: ServerState, connections: "dict[_Connection, None]"
    ) -> None:
        super().__init__(config=config, server_state=state, app_state={})
        self._open = connections
        self._deadline: asyncio.TimerHandle | None = None

    # As uvicorn's own, whose transport is narrower than asyncio says.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {
            "local": transport.get_extra_info("socket").family is socket.AF_UNIX,
            "certified": bool(transport.get_extra_info("peercert")),
        }
        self._open[self] = None
        if len(self._open) > CONNECTIONS:
            next(iter(self._open)).hang_up()
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
        """End the connection at once, whatever is on its way."""
        self._open.pop(self, None)
        self.transport.abort()
