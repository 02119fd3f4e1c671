"""Messages that are too long for a datagram, and messages that nobody can send or read."""

import array
import contextlib
import errno
import fcntl
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from loguru import logger

from proto import channel, memory_file
from proto.channel import INLINE, MESSAGE_LIMIT, SEALS, Channel, ClosedError, Sent
from proto.control import Beat, NotReady, ServiceState
from tests.fakes.service import open_files

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Return both ends of a channel, and close them after the test."""
    pair = Channel.pair()
    yield pair
    for end in pair:
        end.close()


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """Collect the fields of each log line."""
    found: list[dict[str, Any]] = []
    sink = logger.add(
        lambda line: found.append({**line.record["extra"], "said": line.record["message"]})
    )
    yield found
    logger.remove(sink)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(open_files(os.getpid()))


@pytest.mark.parametrize("size", [0, INLINE - 100, INLINE, INLINE + 1, 230_000, 8 << 20])
def test_a_message_of_any_length_arrives(ends: Ends, size: int) -> None:
    """Short and long messages arrive in their order, and leave no descriptor open."""
    here, there = ends
    before = descriptors()
    long = NotReady(reason="x" * size)
    assert [here.send(m) for m in (Beat(), long, Beat())] == [Sent.TAKEN] * 3
    assert [there.receive() for _ in range(4)] == [Beat(), long, Beat(), None]
    assert descriptors() == before


def test_the_datagram_and_the_memory_file_meet_without_a_gap(ends: Ends) -> None:
    """Each length around the limit between datagram and memory file arrives."""
    here, there = ends
    for size in range(INLINE - 60, INLINE + 10):
        message = NotReady(reason="x" * size)
        assert here.send(message) is Sent.TAKEN
        assert there.receive() == message


def test_many_long_messages_wait_for_a_slow_reader(ends: Ends) -> None:
    """A reader that is busy finds a hundred long messages, as each takes little of the socket."""
    here, there = ends
    message = NotReady(reason="x" * 100_000)
    assert [here.send(message) for _ in range(100)] == [Sent.TAKEN] * 100
    assert [there.receive() for _ in range(100)] == [message] * 100


def test_a_long_message_for_a_reader_that_is_gone(ends: Ends) -> None:
    """A long message to an end that is closed leaves no descriptor open."""
    here, there = ends
    there.close()
    before = descriptors()
    assert here.send(NotReady(reason="x" * 100_000)) is Sent.ENDED
    assert descriptors() == before


def test_a_message_that_can_never_be_sent_is_told_once(
    ends: Ends, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message over the limit is not sent; one line names its type and its longest field."""
    monkeypatch.setattr(channel, "MESSAGE_LIMIT", 1000)
    here, there = ends
    state = ServiceState(processes=(), planned=(), problem="short", notices=("x" * 1000,))
    assert [here.send(state) for _ in range(3)] == [Sent.UNFIT] * 3
    assert here.send(Beat()) is Sent.TAKEN
    assert there.receive() == Beat()
    (told,) = lines
    assert told["said"] == "cannot send a message to another process"
    assert (told["type"], told["longest"]) == ("ServiceState", "notices")
    assert told["reason"].endswith(" bytes are more than 1000")


def test_a_text_that_is_not_unicode_is_told(ends: Ends, lines: list[dict[str, Any]]) -> None:
    """A text with a part of a name that is not UTF-8 ends no process: it is not sent."""
    here, _ = ends
    assert here.send(NotReady(reason="file \udcff")) is Sent.UNFIT
    assert [told["type"] for told in lines] == ["NotReady"]


def sealed(content: bytes, seals: int = SEALS) -> int:
    """Return a memory file with *content* and *seals*."""
    file = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(file, content)
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file


def refused(*files: int, data: bytes = b"\0") -> None:
    """Assert that a datagram with these files is the end of the channel and leaves none open."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, contextlib.closing(Channel(ours)) as end:
        theirs.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))])
        for file in set(files):
            os.close(file)
        before = descriptors()
        with pytest.raises(ClosedError):
            end.receive()
        assert descriptors() == before


def test_a_pipe_instead_of_a_memory_file_is_not_read() -> None:
    """A broken child cannot block the supervisor by a descriptor whose reading would wait."""
    reader, writer = os.pipe()
    refused(reader)
    os.close(writer)


def test_a_file_that_could_change_is_not_read(tmp_path: Path) -> None:
    """A memory file without seals and a file on disk are not read."""
    refused(sealed(b"\x81", seals=0))
    path = tmp_path / "file"
    path.write_bytes(b"x")
    refused(os.open(path, os.O_RDONLY))


def test_what_is_in_a_memory_file_must_be_a_message() -> None:
    """A memory file that is empty, too long or not a message is the end of the channel."""
    refused(sealed(b""))
    refused(sealed(b"\xc1" * 100))
    huge = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.truncate(huge, MESSAGE_LIMIT + 1)
    fcntl.fcntl(huge, fcntl.F_ADD_SEALS, SEALS)
    refused(huge)


def test_more_than_one_file_is_refused() -> None:
    """A message has one memory file at most; the kernel closes the others."""
    file = sealed(msgspec.msgpack.encode(Beat()))
    refused(file, file, file)


def test_a_datagram_that_is_too_long_is_refused() -> None:
    """A datagram over the limit comes from no process of ours."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, contextlib.closing(Channel(ours)) as end:
        theirs.send(b"\x81" * (INLINE + 1))
        with pytest.raises(ClosedError):
            end.receive()


def test_without_a_descriptor_left_a_long_message_waits(ends: Ends) -> None:
    """A sender at its limit of descriptors goes on; a reader at its limit loses the channel."""
    here, there = ends
    message = NotReady(reason="x" * 100_000)
    assert here.send(message) is Sent.TAKEN
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each is the lowest number that is free. Not a lower limit: threads of libraries poll as many.
    taken = [os.dup(0) for _ in range(50)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1] + 1, limits[1]))
    try:
        assert here.send(message) is Sent.FULL
        assert here.send(Beat()) is Sent.TAKEN
        with pytest.raises(ClosedError):
            there.receive()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for file in taken:
            os.close(file)


def test_a_kernel_before_6_3(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does not know the newest flag of memory files gets the older ones."""
    create = os.memfd_create

    def old(name: str, flags: int) -> int:
        if flags & memory_file.NOEXEC_SEAL:
            raise OSError(errno.EINVAL, "old")
        return create(name, flags)

    monkeypatch.setattr(os, "memfd_create", old)
    here, there = ends
    message = NotReady(reason="x" * 100_000)
    assert here.send(message) is Sent.TAKEN
    assert there.receive() == message
