"""HTTP clients that behave badly: each function is what one client does, until it is hung up on."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

Address = tuple[str, int]
Behaviour = Callable[[Address], Awaitable[None]]

SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROBE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
ACCEPTS = (
    b"text/plain;version=0.0.4",
    b"text/plain;version=1.0.0;escaping=dots",
    b"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8",
    b"application/openmetrics-text;version=0.0.1",
)
PAGES = tuple(
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nAccept: %b\r\nAccept-Encoding: %b\r\n\r\n"
    % (path, accept, coding)
    for accept in ACCEPTS
    for coding in (b"gzip", b"identity")
    for path in (b"/", b"/metrics", b"/status")
)
PIPELINED = 200


@contextlib.asynccontextmanager
async def connected(address: Address, receive_buffer: int = 0) -> AsyncIterator[socket.socket]:
    """Connect to the server; close the connection afterwards."""
    with socket.socket(socket.AF_INET) as end:
        if receive_buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        end.setblocking(False)
        await asyncio.get_running_loop().sock_connect(end, address)
        yield end


async def send(end: socket.socket, data: bytes) -> None:
    """Send *data*, and let the other clients of this process do something."""
    await asyncio.get_running_loop().sock_sendall(end, data)
    await asyncio.sleep(0)


async def receive(end: socket.socket, most: int = 1 << 16) -> bytes:
    """Return some bytes; raise ConnectionResetError at the end of the connection."""
    data = await asyncio.get_running_loop().sock_recv(end, most)
    if not data:
        raise ConnectionResetError
    return data


async def answer(end: socket.socket) -> None:
    """Read one whole answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += await receive(end)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    got = len(body)
    while got < length:
        got += len(await receive(end))


async def until_hung_up(end: socket.socket, every: float, drip: bytes) -> None:
    """Send a little now and then, without reading, until the server closes the connection."""
    while True:
        await send(end, drip)
        await asyncio.sleep(every)


async def scrapers(address: Address) -> None:
    """Scrape over one connection, again and again."""
    async with connected(address) as end:
        while True:
            await send(end, SCRAPE)
            await answer(end)


async def readers_of_everything(address: Address) -> None:
    """Ask for every page in every format over one connection."""
    async with connected(address) as end:
        while True:
            for request in PAGES:
                await send(end, request)
                await answer(end)


async def pipelines(address: Address) -> None:
    """Send many requests at once, and read no answer."""
    async with connected(address, 4096) as end:
        await send(end, SCRAPE * PIPELINED)
        await until_hung_up(end, 0.5, SCRAPE)


async def non_readers(address: Address) -> None:
    """Send one request, and read no answer."""
    async with connected(address, 4096) as end:
        await send(end, SCRAPE)
        await asyncio.sleep(30.0)


async def slow_readers(address: Address) -> None:
    """Read an answer slowly."""
    async with connected(address, 4096) as end:
        await send(end, SCRAPE)
        while True:
            await receive(end, 512)
            await asyncio.sleep(0.1)


async def slow_writers(address: Address) -> None:
    """Send half a request, and then a little more now and then."""
    async with connected(address) as end:
        await send(end, SCRAPE[:-2] + b"X-Slow: ")
        await until_hung_up(end, 0.1, b"a")


async def byte_by_byte(address: Address) -> None:
    """Send whole requests byte by byte, as fast as possible."""
    async with connected(address) as end:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            for byte in SCRAPE:
                await send(end, bytes((byte,)))
            await answer(end)


async def half_closes(address: Address) -> None:
    """Send a request and the end of the stream; then read the answer."""
    async with connected(address) as end:
        await send(end, SCRAPE)
        end.shutdown(socket.SHUT_WR)
        await answer(end)


async def silent_half_closes(address: Address) -> None:
    """Send only the end of the stream, and wait."""
    async with connected(address) as end:
        end.shutdown(socket.SHUT_WR)
        await receive(end)


async def silent(address: Address) -> None:
    """Send nothing, over several connections, until the server closes them."""
    async with contextlib.AsyncExitStack() as stack:
        ends = [await stack.enter_async_context(connected(address)) for _ in range(4)]
        await asyncio.gather(*map(receive, ends), return_exceptions=True)


async def connections(address: Address) -> None:
    """Connect and leave."""
    async with connected(address):
        await asyncio.sleep(0)


async def resets(address: Address) -> None:
    """Send a request, and reset the connection."""
    async with connected(address) as end:
        await send(end, SCRAPE)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def hasty_scrapers(address: Address) -> None:
    """Send a request, and leave before the answer."""
    async with connected(address) as end:
        await send(end, SCRAPE)


async def hasty_probes(address: Address) -> None:
    """Send a probe, and leave before the answer."""
    async with connected(address) as end:
        await send(end, PROBE)


async def probes(address: Address) -> None:
    """Send probes, each over a new connection."""
    async with connected(address) as end:
        await send(end, PROBE)
        await answer(end)


def hello() -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    """Begin a handshake; the second buffer has the first message."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(into, out)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return tls, into, out


HELLO = hello()[2].read()


async def stalled_hellos(address: Address) -> None:
    """Send half of a handshake's first message, and wait."""
    async with connected(address) as end:
        await send(end, HELLO[: len(HELLO) // 2])
        await receive(end)


async def stalled_handshakes(address: Address) -> None:
    """Send a handshake's first message, read the answer, and wait."""
    async with connected(address) as end:
        await send(end, HELLO)
        while True:
            await receive(end)


async def hasty_handshakes(address: Address) -> None:
    """Send a handshake's first message, read some of the answer, and leave."""
    async with connected(address) as end:
        await send(end, HELLO)
        await receive(end)


async def handshakes(address: Address) -> None:
    """Scrape over TLS, with a new connection each time."""
    async with connected(address) as end:
        tls, into, out = hello()
        await send(end, out.read())
        while True:
            into.write(await receive(end))
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
        tls.write(SCRAPE)
        await send(end, out.read())
        into.write(await receive(end))


PLAIN: tuple[Behaviour, ...] = (
    scrapers,
    readers_of_everything,
    pipelines,
    non_readers,
    slow_readers,
    slow_writers,
    byte_by_byte,
    half_closes,
    silent_half_closes,
    silent,
    connections,
    resets,
    hasty_scrapers,
    hasty_probes,
    probes,
)
TLS: tuple[Behaviour, ...] = (
    silent,
    connections,
    stalled_hellos,
    stalled_handshakes,
    hasty_handshakes,
    handshakes,
)
BEHAVIOURS = {behaviour.__name__: behaviour for behaviour in (*PLAIN, *TLS)}
