"""Bounds on the answers of the API server, whatever it sends."""

from collections.abc import AsyncIterable, AsyncIterator

LONGEST = 4 << 20
"""Bytes of an answer, or of one event of a watch. The API server takes no object over 3 MiB:
https://github.com/kubernetes/apiserver/blob/master/pkg/server/config.go (MaxRequestBodyBytes).
"""

SEPARATORS = (("\x85", b"\\u0085"), ("\u2028", b"\\u2028"), ("\u2029", b"\\u2029"))
"""Characters that JSON allows in a text, and at which the client would split an event."""


class TooLongError(Exception):
    """An answer is too long; the message is one line."""


async def whole(chunks: AsyncIterable[bytes], longest: int = LONGEST) -> AsyncIterator[bytes]:
    """Yield the *chunks* of an answer; TooLongError when they exceed *longest* bytes."""
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > longest:
            raise TooLongError(f"the answer is longer than {longest} bytes")
        yield chunk


async def lines(chunks: AsyncIterable[bytes], longest: int = LONGEST) -> AsyncIterator[bytes]:
    r"""Yield the whole lines of a watch, which end only at \n.

    TooLongError when a line exceeds *longest* bytes.
    """
    waiting: list[bytes] = []
    size = 0
    async for chunk in chunks:
        ended, newline, rest = chunk.rpartition(b"\n")
        if newline:
            yield _plain(b"".join((*waiting, ended, newline)))
            waiting, size = [], 0
        waiting.append(rest)
        size += len(rest)
        if size > longest:
            raise TooLongError(f"an event is longer than {longest} bytes")
    yield _plain(b"".join(waiting))


def _plain(data: bytes) -> bytes:
    for character, escape in SEPARATORS:
        data = data.replace(character.encode(), escape)
    return data
