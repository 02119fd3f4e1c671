"""The requests that commands send to the running service over its control socket.

The socket is `control.sock` in the runtime folder; each message is one datagram (SOCK_SEQPACKET).
"""

import msgspec

from proto.control import MarkHealthy
from proto.texts import shortened

SOCKET = "control.sock"
LIMIT = 4096
"""Bytes of the longest request, and of the longest answer."""


class Quiesce(msgspec.Struct, frozen=True, tag=True):
    """Stop the monitor, so that no process of ours uses the driver; answered when it ended."""


class Resume(msgspec.Struct, frozen=True, tag=True):
    """Start the monitor again."""


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to a request."""

    error: str = ""
    """Why the request failed; empty: it is done."""
    done: str = ""
    """What was done, in one line."""


class Apply(msgspec.Struct, frozen=True, tag=True):
    """Do at once what waits for the clients of MPS daemons to end; this ends those clients."""


Request = Quiesce | Resume | MarkHealthy | Apply

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers = msgspec.msgpack.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """Return *message* as bytes for the socket; the texts of an answer are shortened."""
    if isinstance(message, Answer):
        message = Answer(shortened(message.error), shortened(message.done))
    return _encoder.encode(message)


def decode(data: bytes) -> Request | None:
    """Return the request in *data*; None if *data* is not a request."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_answer(data: bytes) -> Answer:
    """Return the answer in *data*; if it cannot be read, an answer that says so."""
    try:
        return _answers.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Answer("cannot read the answer: use the version that the service has")
