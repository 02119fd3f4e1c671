"""Send a request to the running service: the client of the control socket."""

import socket
from pathlib import Path

from proto import requests
from proto.requests import Request

PATIENCE = 20.0
"""Seconds to wait for an answer; the service takes 10 at most."""


class AskError(Exception):
    """The service refused the request or cannot be reached; the message is one line."""


def ask(runtime_dir: Path, request: Request) -> str:
    """Have the service in *runtime_dir* do *request*; return what it did, in one line.

    Raises AskError if it is not done.
    """
    data = requests.encode(request)
    if len(data) > requests.LIMIT:
        size, most = len(data), requests.LIMIT
        raise AskError(f"cannot send the request: it has {size} bytes; write at most {most} bytes")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as end:
        end.settimeout(PATIENCE)
        try:
            end.connect(str(runtime_dir / requests.SOCKET))
            end.send(data)
            data = end.recv(requests.LIMIT)
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
