"""The TLS handshake of the exporter's clients: those that never finish it are counted too.

asyncio's own TLS server tells nobody of a connection before its handshake is done, so that silent
clients could use up all descriptors of the process.
"""

import asyncio
import contextlib
import ssl
import time
from asyncio import sslproto
from collections.abc import Callable

from supervisor.exporter.crowd import Crowd, Visitor

# The buffer of each connection, which asyncio fills with zeros; a record of TLS has 16 KiB at most.
sslproto.SSLProtocol.max_size = 1 << 14


class Gate(asyncio.Protocol):
    """A connection until its handshake is done; then the protocol that *make* returns has it."""

    def __init__(
        self,
        context: ssl.SSLContext,
        within: float,
        make: Callable[[str], asyncio.Protocol],
        crowd: Crowd,
        source: str,
    ) -> None:
        self._context = context
        self._within = within
        self._make = make
        self._crowd = crowd
        self._client = Visitor(source, time.monotonic(), self.hang_up)
        self._early = b""
        """What the client sent right behind its handshake."""

    # A server's transport is always one that reads and writes.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the handshake."""
        transport.pause_reading()  # what comes now is for TLS, which resumes reading
        self._transport = transport
        self._task = asyncio.get_running_loop().create_task(self._shake_hands())
        self._crowd.enter(self._client)

    def data_received(self, data: bytes) -> None:
        """Keep *data* for the protocol that takes over in this turn of the loop."""
        self._early += data

    def hang_up(self) -> None:
        """Close the connection at once."""
        self._crowd.leave(self._client)
        self._transport.abort()
        self._task.cancel()

    async def _shake_hands(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError):  # the client left, is too slow, or speaks no TLS
                tls = await loop.start_tls(
                    self._transport,
                    self,
                    self._context,
                    server_side=True,
                    ssl_handshake_timeout=self._within,
                    ssl_shutdown_timeout=self._within,
                )
                if tls and not tls.is_closing():
                    self._hand_over(tls)
        finally:
            self._crowd.leave(self._client)

    def _hand_over(self, tls: asyncio.Transport) -> None:
        protocol = self._make(self._client.source)
        tls.set_protocol(protocol)
        protocol.connection_made(tls)
        if self._early:
            protocol.data_received(self._early)
