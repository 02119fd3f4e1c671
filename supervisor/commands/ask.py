"""Send a request to the running service: the client of the control socket."""

import socket
import struct
import time
from pathlib import Path

from proto import requests
from proto.requests import Request

PATIENCE = 20.0
"""Seconds to wait for the service and its answer; the service takes 10 at most."""


class AskError(Exception):
    """The service refused the request or cannot be reached; the message is one line."""


def ask(runtime_dir: Path, request: Request, patience: float = PATIENCE) -> str:
    """Have the service in *runtime_dir* do *request*; return what it did, in one line.

    Raises AskError if it is not done within *patience* seconds.
    """
    try:
        message = requests.encode(request)
    except UnicodeEncodeError as error:
        raise AskError("cannot send the request: it is not UTF-8") from error
    if len(message) > requests.LIMIT:
        size, most = len(message), requests.LIMIT
        raise AskError(f"cannot send the request: it has {size} bytes; write at most {most} bytes")
    try:
        data = _exchange(runtime_dir / requests.SOCKET, message, time.monotonic() + patience)
    except BlockingIOError as error:
        raise AskError(
            f'cannot reach the service in "{runtime_dir}": too many clients have waited for it for '
            f"{patience:g} s; try again, and check that it is not stopped"
        ) from error
    except TimeoutError as error:
        raise AskError(
            f'cannot get an answer from the service in "{runtime_dir}" within {patience:g} s; '
            "its log may say why"
        ) from error
    except OSError as error:
        raise AskError(
            f'cannot reach the service in "{runtime_dir}": {error.strerror or error}; '
            "check that it is running with this --runtime-dir"
        ) from error
    if not data:
        raise AskError(
            f'cannot get an answer from the service in "{runtime_dir}": it closed the connection'
        )
    answer = requests.decode_answer(data)
    if answer.error:
        raise AskError(answer.error)
    return answer.done


def _exchange(path: Path, message: bytes, deadline: float) -> bytes:
    """Return the answer to *message*.

    BlockingIOError: the service never accepts the client. TimeoutError: it never answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        # Not settimeout: connect would then fail at once while the queue of clients is full.
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_left(deadline)))
        end.connect(str(path))
        end.send(message)
        end.settimeout(_left(deadline))
        return end.recv(requests.LIMIT)


def _left(deadline: float) -> float:
    """Return the seconds until *deadline*; never 0, which would mean not to wait, or for ever."""
    return max(deadline - time.monotonic(), 0.001)


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("ll", whole, int((seconds - whole) * 1e6))
