"""The socket pair that connects the supervisor and a child.

Each message is one datagram (SOCK_SEQPACKET), so a child that hangs while it sends cannot block
the supervisor; see docs/decisions/0002-control-channel.md.
"""

import errno
import socket
from typing import Self

import msgspec

from proto.control import Order, Report

MESSAGE_LIMIT = 1 << 20
"""Bytes of the largest message; Linux sends no more than the socket buffer, 208 KiB by default."""

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Order | Report] = msgspec.msgpack.Decoder(Order | Report)


class ClosedError(Exception):
    """The other side has ended, or it sends data that is not a message."""


class Channel:
    """One end of the socket pair between supervisor and child; no call blocks."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return both ends."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(first), cls(second)

    def fileno(self) -> int:
        """Return the file descriptor to wait on."""
        return self._end.fileno()

    @property
    def closed(self) -> bool:
        """Whether this end was closed."""
        return self._end.fileno() < 0

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def send(self, message: Order | Report) -> bool:
        """Send *message*; return False if the other side has ended or its buffer is full."""
        try:
            self._end.send(_encoder.encode(message))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise  # a bug on this side: the message would fail every time
            return False
        return True

    def receive(self) -> Order | Report | None:
        """Return the next message; None: no message waits. Raise ClosedError at the end.

        Data that is not a message counts as the end, so a broken child cannot crash the reader.
        """
        try:
            data = self._end.recv(MESSAGE_LIMIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ClosedError from error
        if not data:
            raise ClosedError
        try:
            return _decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ClosedError from error
