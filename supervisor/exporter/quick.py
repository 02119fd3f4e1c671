"""The short way of a probe: one whole request in one piece, answered in the turn that accepts it.

Every other request, and every request that is unusual in any way, takes the long way through h11.
"""

import re
from collections.abc import Callable
from http import HTTPStatus

from supervisor.exporter.messages import ALWAYS, Request, Response

LONGEST = 2048
"""Most bytes of a probe that takes the short way; the kubelet's has about 150."""

LONGEST_BODY = 8192
"""Most bytes of an answer that can be sent at once, whatever the client does."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

_PROBE = re.compile(
    rb"(GET|HEAD) (/livez|/readyz) HTTP/1\.1\r\n((?:%b:[\x20-\x7e\t]*+\r\n)++)\r\n" % _TOKEN
)

_LONG_WAY = frozenset({"content-length", "transfer-encoding", "expect", "upgrade"})
"""Headers of requests with a body, or with another protocol."""


def quick(data: bytes, answer: Callable[[Request], Response]) -> bytes:
    """Return the whole answer to the probe that *data* is; empty: it is none, or an unusual one."""
    found = _PROBE.fullmatch(data)
    if not found or len(data) == LONGEST:
        return b""
    method, path, lines = found.groups()
    pairs = [line.partition(":") for line in lines.decode("ascii").split("\r\n")[:-1]]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if len(headers) != len(pairs) or "host" not in headers or _LONG_WAY & headers.keys():
        return b""
    response = answer(Request(path.decode("ascii"), headers))
    if len(response.body) > LONGEST_BODY:
        return b""
    given = ALWAYS | {name.lower(): value for name, value in response.headers}
    given |= {"content-length": str(len(response.body)), "connection": "close"}
    status = HTTPStatus(response.status)
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return head.encode("ascii") + b"\r\n" + (b"" if method == b"HEAD" else response.body)
