"""The socket pair on which the supervisor and a child talk.

Each message is one datagram (SOCK_SEQPACKET), so that a child that hangs in the middle of one
cannot block the supervisor; see docs/decisions/0002-control-channel.md.
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
    """The other side is gone, or is not what it was."""


class Channel:
    """One end of the socket pair between the supervisor and a child; it never blocks."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return both ends."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(first), cls(second)

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._end.fileno()

    @property
    def closed(self) -> bool:
        """Whether this end was closed."""
        return self._end.fileno() < 0

    def close(self) -> None:
        """Hang up."""
        self._end.close()

    def send(self, message: Order | Report) -> bool:
        """Send *message*; False when the other side is gone or does not read what it has."""
        try:
            self._end.send(_encoder.encode(message))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise  # it would be lost every time: a mistake of ours, not of the other side
            return False
        return True

    def receive(self) -> Order | Report | None:
        """Return the next message, None when there is none now; raise ClosedError at the end.

        Nonsense is an end too: who talks it is not what it was, and must not end its reader.
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
