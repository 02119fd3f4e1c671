"""The exporter's HTTP server: uvicorn's protocol in the exporter's own asyncio loop.

Not uvicorn's own server: it takes over the process's signals and wakes up ten times a second.
Slow, silent or very many clients do not keep probes waiting: probes are answered first, everything
else a little in each turn of the loop, and whoever keeps us waiting is cut off.
"""

import asyncio
import functools
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from supervisor.exporter import linear
from supervisor.exporter.connection import Connection
from supervisor.exporter.crowd import CONNECTIONS, FULL, Crowd
from supervisor.exporter.door import Door
from supervisor.exporter.messages import ALWAYS, Request, Response, plain
from supervisor.exporter.own_errors import OwnErrors
from supervisor.exporter.quick import quick
from supervisor.exporter.tls_gate import Gate
from supervisor.exporter.turns import Turns

PROBES = frozenset({"/livez", "/readyz"})

REQUEST_WITHIN = 5.0
"""Seconds from the connection, or from the first byte of a later request, until the client has read
the whole answer.
"""

ANSWERS_AT_ONCE = 8
"""Requests other than probes to answer in a turn of the loop."""

PIECE = 1 << 16
"""Bytes of a body that a client has to read before it gets the next piece."""

LONGEST_HEADERS = 16 << 10
"""Maximum bytes of a request's headers."""

Message = MutableMapping[str, Any]


async def serve(
    address: tuple[str, int],
    answer: Callable[[Request], Response],
    context: ssl.SSLContext | None = None,
) -> tuple[Door, str]:
    """Serve what *answer* returns on host and port; return the server and its URL.

    With a *context* it serves HTTPS. Raise OSError if the address cannot be used.
    """
    listener = _listener(*address)
    crowd = Crowd(CONNECTIONS, FULL)
    make = _connections(answer, crowd)
    if context:
        make = functools.partial(Gate, context, REQUEST_WITHIN, make, crowd)
    server = Door(listener, crowd, make, REQUEST_WITHIN, None if context else _quick(answer))
    host, port = listener.getsockname()[:2]
    # Bound to all IPv4 and IPv6 addresses; the node may have no IPv6.
    return server, _url("https" if context else "http", host if address[0] else "127.0.0.1", port)


async def serve_locally(path: str, answer: Callable[[Request], Response]) -> asyncio.Server:
    """Serve what *answer* returns on a unix socket; its file mode limits the clients."""
    make = functools.partial(_connections(answer, Crowd(CONNECTIONS, FULL)), "")
    return await asyncio.get_running_loop().create_unix_server(make, path)


def _quick(answer: Callable[[Request], Response]) -> Callable[[bytes], bytes]:
    def reply(data: bytes) -> bytes:
        try:
            return quick(data, answer)
        except Exception:  # noqa: BLE001 - the long way fails too, and logs it
            return b""

    return reply


def _connections(
    answer: Callable[[Request], Response], crowd: Crowd
) -> Callable[[str], asyncio.Protocol]:
    """Return what makes the protocol for a connection from a source."""
    linear.use()
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
    return lambda source: Connection(config, crowd, source, REQUEST_WITHIN)


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
    errors, turns = OwnErrors(), Turns(ANSWERS_AT_ONCE)

    async def application(
        scope: Message, receive: object, send: Callable[[Message], Awaitable[None]]
    ) -> None:
        del receive  # the body of a request is ignored
        connection: Connection = scope["state"]["connection"]
        if scope["path"] not in PROBES and not connection.local:
            await turns.mine(connection.source)
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
        for begin in range(0, len(response.body), PIECE):
            piece = response.body[begin : begin + PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return application


def _response(scope: Message, answer: Callable[[Request], Response]) -> Response:
    if scope["method"] not in {"GET", "HEAD"}:
        error = {"error": f"cannot answer {scope['method']}: use GET or HEAD"}
        return plain(405, error, ("Allow", "GET, HEAD"))
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    connection: Connection = scope["state"]["connection"]
    return answer(Request(scope["path"], headers, connection.local, connection.certified))
