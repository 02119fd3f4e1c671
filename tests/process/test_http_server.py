"""The exporter's HTTP server: its own errors, and clients that never finish their handshake."""

import asyncio
import contextlib
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from supervisor.exporter import http_server
from supervisor.exporter.http_server import Request, Response, plain
from tests.fakes.certificates import certify
from tests.fakes.service import PATIENCE


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Collect what is logged."""
    found: list[str] = []
    sink = logger.add(lambda message: found.append(str(message)), format="{message} {extra}")
    yield found
    logger.remove(sink)


def get(url: str) -> int:
    """Return the status of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - our own http
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_an_error_of_our_own_is_logged(lines: list[str]) -> None:
    """An exception gets status 500 and a log entry; the same one again is only counted."""

    def answer(request: Request) -> Response:
        if request.path == "/other":
            raise KeyError(request.path)
        raise ZeroDivisionError

    async def story() -> None:
        server, url = await http_server.serve(("127.0.0.1", 0), answer)
        async with server:
            for path in ("/metrics", "/metrics", "/status", "/other"):
                assert await asyncio.to_thread(get, url + path) == 500

    asyncio.run(story())
    logged = [line for line in lines if line.startswith("cannot answer an HTTP request")]
    assert ["ZeroDivisionError" in line for line in logged] == [True, False]
    assert "/metrics" in logged[0]


def test_silent_clients_of_tls_are_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too many connections that never begin TLS, the oldest is closed; others are answered."""
    certify(folder, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    trust = ssl.create_default_context(cafile=str(folder / "server.crt"))
    monkeypatch.setattr(http_server, "CONNECTIONS", 3)
    # No time limit can close them, only the number.
    monkeypatch.setattr(http_server, "REQUEST_WITHIN", 10 * PATIENCE)

    async def story() -> None:
        server, url = await http_server.serve(("127.0.0.1", 0), lambda _: plain(200, {}), context)
        port = int(url.rpartition(":")[2])
        async with server, asyncio.timeout(PATIENCE):
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            for reader, _ in silent[:2]:
                with contextlib.suppress(ConnectionResetError):
                    assert await reader.read(1) == b""
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            for _, writer in silent:
                writer.close()

    asyncio.run(story())
