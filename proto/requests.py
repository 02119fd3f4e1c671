"""What an operator asks of the running service over its control socket, and the answer.

The socket is `control.sock` in the runtime folder; each message is one datagram (SOCK_SEQPACKET).
"""

import msgspec

from proto.control import MarkHealthy

SOCKET = "control.sock"
LIMIT = 4096
"""Bytes of the longest request."""


class Quiesce(msgspec.Struct, frozen=True, tag=True):
    """End the monitor, so that no process of ours holds the driver; answered when it is gone."""


class Resume(msgspec.Struct, frozen=True, tag=True):
    """Start the monitor again."""


class Answer(msgspec.Struct, frozen=True, tag=True):
    """What came of a request."""

    error: str = ""
    """Why it was not done; empty: it was."""


Request = Quiesce | Resume | MarkHealthy

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_answers = msgspec.msgpack.Decoder(Answer)


def encode(message: Request | Answer) -> bytes:
    """Return *message* as it goes over the socket."""
    return _encoder.encode(message)


def decode(data: bytes) -> Request | None:
    """Return the request in *data*; None for what is none."""
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def decode_answer(data: bytes) -> Answer:
    """Return the answer in *data*; one that cannot be read is an error too."""
    try:
        return _answers.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Answer("cannot read the answer: use the version that the service has")
