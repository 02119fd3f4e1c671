"""An HTTP connection: uvicorn's protocol, with a limit on how long a client keeps us waiting."""

import asyncio
import contextlib
import socket
import struct
import time
from asyncio import selector_events

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from supervisor.exporter.crowd import Crowd, Visitor

RESET = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which close() resets the connection, socket(7)."""


# Bytes to read at once. h11 takes a request whose end is there, however long its headers are.
selector_events._SelectorTransport.max_size = 1 << 14  # type: ignore[attr-defined]  # noqa: SLF001


class Connection(H11Protocol):
    """A connection that is closed if its client is too slow to send requests or to read answers."""

    def __init__(self, config: uvicorn.Config, crowd: Crowd, source: str, patience: float) -> None:
        """Take at most *patience* seconds for each request, until its answer is read."""
        state = {"connection": self}
        super().__init__(config=config, server_state=ServerState(), app_state=state)
        self._crowd = crowd
        self._patience = patience
        self._deadline: asyncio.TimerHandle | None = None
        self._unread = False
        """Whether an answer is complete, but its client has not read all of it."""
        self._client = Visitor(source, 0.0, self.hang_up)
        self.source = source
        self._ended = False
        """Whether the client sends nothing more."""
        self.local = False
        """Whether it is over a unix socket."""
        self.certified = False
        """Whether the client has a certificate that TLS verified."""

    # The signature is uvicorn's, whose transport type is narrower than asyncio's.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        # Tell at once when a client does not read. Not 0: TLS would count as full without a byte.
        transport.set_write_buffer_limits(high=1, low=0)
        self.local = transport.get_extra_info("socket").family is socket.AF_UNIX
        self.certified = bool(transport.get_extra_info("peercert"))
        self._client.since = time.monotonic()
        self._crowd.enter(self._client)
        self._begin()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        self._begin()
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio's, not as uvicorn's
        """Answer the request of a client that only reads from now on."""
        self._ended = True
        return self.scheme == "http" and self._is_answering()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def on_response_complete(self) -> None:
        """Go on with the next request, but not before the client has read this answer."""
        if self.flow.write_paused or self.transport.is_closing():
            self._unread = True
            return
        self._end()
        super().on_response_complete()
        if self._ended and not self._is_answering():
            self.transport.close()
        elif self.conn.trailing_data[0] or self._is_answering():
            self._begin()  # it had sent its next request already

    def resume_writing(self) -> None:
        """Go on when the client has read what we had sent."""
        super().resume_writing()
        if self._unread and not self.transport.is_closing():
            self._unread = False
            self.on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._end()
        self._crowd.leave(self._client)
        super().connection_lost(exc)

    def _begin(self) -> None:
        if self._deadline is None:
            self._crowd.waits(self._client, time.monotonic())
            self._deadline = self.loop.call_later(self._patience, self.hang_up)

    def _end(self) -> None:
        if self._deadline:
            self._crowd.waits(self._client, time.monotonic())
            self._deadline.cancel()
            self._deadline = None

    def hang_up(self) -> None:
        """Close the connection at once, even in the middle of an answer."""
        self._crowd.leave(self._client)
        with contextlib.suppress(OSError):  # it may be closed already
            # With a reset: the kernel would keep what the client does not read.
            end = self.transport.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()
