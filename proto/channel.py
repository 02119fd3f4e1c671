"""The socket pair that connects the supervisor and a child.

Each message is one datagram (SOCK_SEQPACKET), so a child that hangs while it sends cannot block
the supervisor. A long message travels in a memory file, whose descriptor the datagram carries; see
docs/decisions/0002-control-channel.md.
"""

import array
import enum
import errno
import fcntl
import os
import socket
from typing import Self

import msgspec
from loguru import logger

from proto.control import Order, Report
from proto.memory_file import memory_file

INLINE = 16 << 10
"""Bytes of the longest message that is the datagram itself: many of them fit into the socket."""

MESSAGE_LIMIT = 64 << 20
"""Bytes of the longest message; the plan of the longest list that the kubelet takes has half."""

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
"""What makes a memory file unchangeable. Reading a file that has seals never blocks."""

GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.EBADF})

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Order | Report] = msgspec.msgpack.Decoder(Order | Report)


class ClosedError(Exception):
    """The other side has ended, or it sends data that is not a message."""


class Sent(enum.Enum):
    """What became of a message."""

    TAKEN = "taken"
    """The other side will receive it."""
    ENDED = "ended"
    """The other side has ended, or this end is closed."""
    FULL = "full"
    """The other side does not read, or the machine has no memory or descriptor left for it."""
    UNFIT = "unfit"
    """It is too long, or a text in it is not Unicode: it would fail every time."""


class Channel:
    """One end of the socket pair between supervisor and child; no call blocks."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._unfit: set[type] = set()

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

    def send(self, message: Order | Report) -> Sent:
        """Send *message*; return what became of it. Never raises: no message is worth a process."""
        try:
            data = _encoder.encode(message)
        except (ValueError, OverflowError) as error:
            return self._refuse(message, str(error))
        if len(data) > MESSAGE_LIMIT:
            return self._refuse(message, f"{len(data)} bytes are more than {MESSAGE_LIMIT}")
        try:
            if len(data) <= INLINE:
                self._end.send(data)
            else:
                self._send_in_file(data)
        except OSError as error:
            return Sent.ENDED if error.errno in GONE else Sent.FULL
        return Sent.TAKEN

    def _refuse(self, message: Order | Report, reason: str) -> Sent:
        """Log once for each type of message that it cannot be sent, and its longest field."""
        if type(message) not in self._unfit:
            self._unfit.add(type(message))
            longest = max(message.__struct_fields__, key=lambda f: len(repr(getattr(message, f))))
            name = type(message).__name__
            logger.error(
                "cannot send a message to another process",
                type=name,
                longest=longest,
                reason=reason,
            )
        return Sent.UNFIT

    def _send_in_file(self, data: bytes) -> None:
        """Send *data* in a sealed memory file, in one step like any other message."""
        with os.fdopen(memory_file("message"), "wb") as file:
            file.write(data)
            file.flush()
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
            rights = array.array("i", [file.fileno()])
            # With a byte of its own: an empty datagram would be the end of the channel.
            self._end.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def receive(self) -> Order | Report | None:
        """Return the next message; None: no message waits. Raise ClosedError at the end.

        Data that is not a message counts as the end, so a broken child cannot crash the reader.
        """
        try:
            data = self._read()
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

    def _read(self) -> bytes:
        """Return the bytes of the next message; OSError if there is none, or if it has a defect."""
        room = socket.CMSG_LEN(array.array("i").itemsize)  # for one descriptor, not for two
        data, control, flags, _ = self._end.recvmsg(INLINE, room, socket.MSG_CMSG_CLOEXEC)
        files = [
            array.array("i", found)[0] for _, kind, found in control if kind == socket.SCM_RIGHTS
        ]
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise OSError(errno.EMSGSIZE, "cannot receive the whole message")
            return _content(files[0]) if files else data
        finally:
            for file in files:
                os.close(file)


def _content(file: int) -> bytes:
    """Return what is in a sealed memory file; OSError for any other descriptor.

    Reading a pipe, or a file on a network, could block; a file that is not sealed could change.
    """
    if fcntl.fcntl(file, fcntl.F_GET_SEALS) & SEALS != SEALS:
        raise OSError(errno.EPERM, "cannot read a message from a file that is not sealed")
    size = os.fstat(file).st_size
    if size > MESSAGE_LIMIT:
        raise OSError(errno.EMSGSIZE, "cannot read a message that is too long")
    return os.pread(file, size, 0)
