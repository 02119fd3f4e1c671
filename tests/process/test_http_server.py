"""The exporter's HTTP server: its own errors, and clients that do not do their part."""

import asyncio
import contextlib
import os
import resource
import select
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from supervisor.exporter import http_server
from supervisor.exporter.messages import Request, Response, plain
from tests.chaos.of_processes import no_more_descriptors
from tests.fakes.certificates import certify
from tests.fakes.service import PATIENCE, until


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
    """With no connection left for those that begin TLS, the oldest silent one is closed."""
    certify(folder, "server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    trust = ssl.create_default_context(cafile=str(folder / "server.crt"))
    monkeypatch.setattr(http_server, "CONNECTIONS", 3)
    monkeypatch.setattr(http_server, "FULL", 3)
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


HUGE = Response(200, [("Content-Type", "text/plain")], b"x" * (16 << 20))
"""More than the kernel keeps for a client that does not read."""

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def hung_up(end: socket.socket) -> bool:
    """Wait until the server closes a connection from which nobody reads; return whether it did."""
    events = select.poll()
    events.register(end, select.POLLRDHUP)
    return bool(events.poll(PATIENCE * 1000))


@pytest.mark.parametrize("secure", [False, True], ids=["HTTP", "HTTPS"])
@pytest.mark.parametrize("count", [1, 200])
def test_a_client_that_does_not_read_is_hung_up_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, count: int, *, secure: bool
) -> None:
    """A client that does not read its answer in time is closed, whatever it has sent meanwhile."""
    monkeypatch.setattr(http_server, "REQUEST_WITHIN", 0.2)
    context = trust = None
    if secure:
        certify(folder, "server")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(folder / "server.crt", folder / "server.key")
        trust = ssl.create_default_context(cafile=str(folder / "server.crt"))

    def ask(port: int) -> bool:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as plain_end:
            end = trust.wrap_socket(plain_end, server_hostname="localhost") if trust else plain_end
            with end:
                end.sendall(REQUEST * count)
                return hung_up(end)

    async def story() -> None:
        server, url = await http_server.serve(("127.0.0.1", 0), lambda _: HUGE, context)
        async with server:
            assert await asyncio.to_thread(ask, int(url.rpartition(":")[2]))

    asyncio.run(story())


def test_a_client_that_reads_gets_all_its_answers() -> None:
    """Requests that are sent at once are answered one after the other, with whole bodies."""

    async def story() -> bytes:
        server, url = await http_server.serve(("127.0.0.1", 0), lambda _: HUGE)
        async with server, asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(REQUEST * 2 + REQUEST.replace(b"Host", b"Connection: close\r\nHost"))
            try:
                return await reader.read()
            finally:
                writer.close()

    answers = asyncio.run(story())
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.count(b"x") > 3 * len(HUGE.body)


@pytest.mark.parametrize("path", ["/", "/livez"])
def test_a_client_that_only_reads_from_now_on_is_answered(path: str) -> None:
    """A client that closes its sending side behind its request gets the whole answer."""

    async def story() -> bytes:
        server, url = await http_server.serve(("127.0.0.1", 0), lambda _: HUGE)
        async with server, asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(REQUEST.replace(b" / ", f" {path} ".encode()))
            writer.write_eof()
            try:
                return await reader.read()
            finally:
                writer.close()

    head, _, body = asyncio.run(story()).partition(b"\r\n\r\n")
    assert (head.startswith(b"HTTP/1.1 200 OK"), len(body)) == (True, len(HUGE.body))


def test_a_server_without_descriptors(lines: list[str]) -> None:
    """Without a free descriptor, the server says so once, and answers when there is one again."""

    async def story() -> int:
        server, url = await http_server.serve(("127.0.0.1", 0), lambda _: plain(200, {}))
        loop = asyncio.get_running_loop()
        async with server:
            with socket.socket() as end:
                end.setblocking(False)
                before = no_more_descriptors(os.getpid())
                try:
                    await loop.sock_connect(end, ("127.0.0.1", int(url.rpartition(":")[2])))
                    await loop.sock_sendall(end, REQUEST)
                    await until(lambda: lines, "warning")
                finally:
                    resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, before)
                async with asyncio.timeout(PATIENCE):
                    return int((await loop.sock_recv(end, 100)).split()[1])

    assert asyncio.run(story()) == 200
    assert [line.split(" {")[0] for line in lines] == ["cannot accept HTTP connections, retrying"]


def test_long_headers_in_one_piece_are_refused() -> None:
    """h11 takes a request whose end is there, so no more than the longest headers is read."""

    async def story() -> bytes:
        server, url = await http_server.serve(("127.0.0.1", 0), lambda _: plain(200, {}))
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        # All of it is in the kernel before the server, which is in this thread, reads.
        with socket.create_connection(address) as client:
            client.sendall(b"GET /status HTTP/1.1\r\nHost: a\r\n" + b"A:\r\n" * 12_000 + b"\r\n")
            client.setblocking(False)
            async with server, asyncio.timeout(PATIENCE):
                return await asyncio.get_running_loop().sock_recv(client, 12)

    assert asyncio.run(story()) == b"HTTP/1.1 400"
