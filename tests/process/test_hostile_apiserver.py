"""The API server sends answers that are long, compressed, endless, or no answers."""

import asyncio
import contextlib
import functools
import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from proto.backoff import REJOIN
from supervisor.cluster import answers, connection
from supervisor.cluster.apiserver import ApiServer
from supervisor.cluster.connection import TroubleError
from tests.fakes.hostile_apiserver import Hostile, endless, hostile_apiserver, whole
from tests.fakes.memory import forget_peak, peak
from tests.fakes.service import PATIENCE

LABEL = "example.com/label"
MIB = 1 << 20


def node(value: str) -> bytes:
    """Return a node with a label."""
    return json.dumps({"metadata": {"name": "node-1", "labels": {LABEL: value}}}).encode()


def bomb() -> Hostile:
    """Return an answer of 1 MiB that is 256 MiB when it is decompressed."""
    text = gzip.compress(b'"' + bytes(256 * MIB), 1)
    return whole(text, b"Content-Encoding: gzip\r\n")


def status(message: str) -> Hostile:
    """Return an error with a message."""
    body = {"kind": "Status", "code": 418, "message": message}
    return whole(json.dumps(body).encode(), status=b"418 no")


MODIFIED = b'{"type": "MODIFIED", "object": '

HOSTILE: dict[str, tuple[Callable[[], Hostile], str]] = {
    "compressed": (bomb, "compressed"),
    "compressed twice": (lambda: whole(b"", b"Content-Encoding: gzip, gzip\r\n"), "compressed"),
    "endless": (functools.partial(endless, b" " * MIB, watch=False), "longer than"),
    "endless event": (functools.partial(endless, MODIFIED + b" " * MIB, watch=True), "longer than"),
    "endless events": (functools.partial(endless, b"\n" * MIB, watch=True), "trunc|ended|mal"),
    "long message": (lambda: status("x" * MIB), "^418 x+ ... x+$"),
    "redirect": (
        lambda: whole(b"<a>", b"Location: https://login.example/?a\r\n", status=b"302 Found"),
        "^302 Found: the server redirects to https://login.example/[?]a; an API server does not",
    ),
    "without a type": (
        lambda: Hostile(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"),
        "^502 Bad Gateway$",
    ),
    "web page": (lambda: whole(b"<html>"), "^the answer is no JSON, as from another server: "),
    "deep": (lambda: whole(b"[" * MIB), "."),
    "not a node": (lambda: whole(b"[]"), "."),
    "not UTF-8": (lambda: whole(b'"\xff"'), "."),
}


@contextlib.asynccontextmanager
async def client(
    answer: Hostile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ApiServer]:
    """Connect our client to a server."""
    async with hostile_apiserver(answer) as server, asyncio.timeout(PATIENCE):
        monkeypatch.setenv("KUBECONFIG", server.kubeconfig(folder)["KUBECONFIG"])
        api = ApiServer("node-1")
        yield api
        await api.close()


async def read_all(api: ApiServer) -> None:
    """Follow a label that the node does not have."""
    async for value in api.labels(LABEL):
        assert value == ""


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_answer_is_trouble(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Reading the label fails with one short line, and takes less than 64 MiB."""
    make, reason = HOSTILE[kind]
    answer = make()

    async def story() -> None:
        async with client(answer, folder, monkeypatch) as api:
            before = forget_peak()
            with pytest.raises(TroubleError, match=reason) as caught:
                await read_all(api)
            assert peak() - before < 64 * MIB
            assert len(str(caught.value)) <= 300

    asyncio.run(story())


def test_a_separator_in_a_text_does_not_split_an_event(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch goes on over a text with characters at which Python splits lines."""
    odd = '{"metadata": {"annotations": {"a": "\x85\u2028\u2029"}, "labels": {"%s": "new"}}}'
    event = MODIFIED + (odd % LABEL).encode() + b"}\n"

    async def story() -> None:
        answer = Hostile(endless(b"", watch=True).head, event, 2, watch=True)
        async with (
            client(answer, folder, monkeypatch) as api,
            contextlib.aclosing(api.labels(LABEL)) as labels,
        ):
            assert [await anext(labels), await anext(labels)] == ["", "new"]

    asyncio.run(story())


def test_lines_are_whole_whatever_the_chunks() -> None:
    """Lines are passed on whole, and a line over the limit is refused."""

    async def chunked(text: bytes, longest: int) -> list[bytes]:
        async def chunks() -> AsyncIterator[bytes]:
            for byte in text:
                yield bytes([byte])

        return [line async for line in answers.lines(chunks(), longest) if line]

    assert asyncio.run(chunked(b"ab\n\ncde\nf", 3)) == [b"ab\n", b"\n", b"cde\n", b"f"]
    with pytest.raises(answers.TooLongError):
        asyncio.run(chunked(b"ab\ncdef\n", 3))


@pytest.mark.parametrize("piece", [(MODIFIED + node("") + b"}\n") * 50, b""])
def test_a_watch_takes_no_core(folder: Path, monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    """A watch pauses after each event, however many there are, and when the server ends it."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 100:
            raise TroubleError("enough")

    monkeypatch.setattr("supervisor.cluster.apiserver.asyncio.sleep", sleep)
    answer = Hostile(endless(b"", watch=True).head, piece, 2, watch=True)

    async def story() -> None:
        async with client(answer, folder, monkeypatch) as api:
            with pytest.raises(TroubleError, match="enough"):
                await read_all(api)

    asyncio.run(story())
    spread = [pause for pause in pauses if pause != connection.PAUSE]
    assert len(spread) <= len(pauses) / 2
    # Where the server ends the watch, also so that not all nodes come back in the same moment.
    assert all(0 <= pause <= REJOIN for pause in spread)
