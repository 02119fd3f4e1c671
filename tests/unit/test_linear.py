"""No request, however hostile, takes more than linear time to be read."""

import re
import time
from collections.abc import Callable

import h11
import pytest
from h11 import _abnf

from supervisor.exporter import linear
from supervisor.exporter.messages import plain
from supervisor.exporter.quick import LONGEST, quick

BEGUN = b"GET /livez HTTP/1.1\r\nHost: a\r\n"
CHUNKED = BEGUN + b"Transfer-Encoding: chunked\r\n\r\n"
ENOUGH = 0.5
"""CPU seconds: hundreds of times what these take, and far less than what they took."""

linear.use()


def _of_h11(data: bytes) -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    if data.startswith(CHUNKED):
        assert isinstance(connection.next_event(), h11.Request)
    with pytest.raises(h11.RemoteProtocolError):
        connection.next_event()


def _on_the_short_way(data: bytes) -> None:
    assert len(data) < LONGEST
    assert quick(data, lambda _: plain(200, {})) == b""


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (_on_the_short_way, BEGUN + b"A: \r\n" * 380 + b"\0"),
        (_of_h11, BEGUN + b"A:" + b" " * 32_000 + b"\0\r\n\r\n"),
        (_of_h11, BEGUN + b"A:\r\n" + b" \r\n" * 16_000 + b" \0\r\n\r\n"),
        (_of_h11, CHUNKED + b"1;" + b" " * 32_000 + b"\nx\r\n"),
    ],
)
def test_hostile_lines_take_no_time(read: Callable[[bytes], None], data: bytes) -> None:
    """Many blanks, which patterns could divide between their parts in many ways, are refused."""
    begun = time.process_time()
    read(data)
    assert time.process_time() - begun < ENOUGH


@pytest.mark.parametrize(
    "line",
    [
        b"a:",
        b"a: \t",
        b"a:b",
        b"a: b  c\td ",
        b"a :b",
        b":b",
        b"a",
        b"a:\x00",
        b"a:b\x0b",
        b"a: \xff",
    ],
)
def test_header_lines_are_read_as_before(line: bytes) -> None:
    """The pattern matches what h11's own matches."""
    theirs = re.fullmatch(_abnf.header_field.encode(), line)
    ours = linear.HEADER_FIELD.fullmatch(line)
    assert (theirs and theirs.groupdict()) == (ours and ours.groupdict())


@pytest.mark.parametrize(
    "line", [b"5\r\n", b"5 \r\n", b"a;b=c \r\n", b"\r\n", b"5x\r\n", b"5;a\nb\r\n"]
)
def test_chunk_headers_are_read_as_before(line: bytes) -> None:
    """The pattern matches what h11's own matches."""
    theirs = re.fullmatch(_abnf.chunk_header.encode(), line)
    ours = linear.CHUNK_HEADER.fullmatch(line)
    assert (theirs and theirs.groupdict()) == (ours and ours.groupdict())
