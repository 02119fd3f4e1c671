"""The connection to the API server: bounded answers, a timeout for each request, clear failures.

All failures of the server or the library leave this package as a TroubleError. Answers are bounded:
a server that sends too much fails like a server that sends nothing.
"""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from typing import cast

import httpx2
from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError, ConfigError
from msgspec import DecodeError, ValidationError

from proto.backoff import rejoin
from proto.texts import shortened
from supervisor.cluster import answers

COMPONENT = "gpu-sharing-plugin"
"""Our name in Events, and as a manager of fields of objects."""

TIMEOUT = 5.0
"""Seconds for a whole request, even if the server keeps sending single bytes."""

PAUSE = 0.1
"""Seconds before a watch, and between two of its events; else a server could keep a core busy."""

LONGEST_REASON = 300
"""Characters of the message of a TroubleError; a server may answer with any text."""

FORBIDDEN, NOT_FOUND, CONFLICT = 403, 404, 409

NO_RIGHT = "; give the service account this right by RBAC, see docs/cluster.md#permissions"

REDIRECTS = (
    ": the server redirects to {}; an API server does not, so check its address and the proxy"
)

NOT_JSON = "the answer is no JSON, as from another server: {}"

NO_CREDENTIALS = "; run this in a pod with a service account, or name a file in KUBECONFIG"


class TroubleError(Exception):
    """A request that failed; the message is one line, *code* the HTTP status or 0."""

    def __init__(self, text: str, code: int = 0, conflicts: tuple[str, ...] = ()) -> None:
        super().__init__(shortened(" ".join(text.split()), LONGEST_REASON))
        self.code = code
        self.conflicts = conflicts
        """Of an apply: the fields that another manager owns, as the server writes their paths."""


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Turn every failure of what runs inside, also a timeout after *seconds*, into TroubleError."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TroubleError:
        raise
    except Exception as error:  # for any error all we can do is to retry
        raise _trouble(error) from error


def _trouble(error: Exception) -> TroubleError:
    match error:
        case ApiError():
            code = code_of(error)
            hint = NO_RIGHT if code == FORBIDDEN else ""
            text = f"{error.status.code} {error.status.message}{hint}"
            return TroubleError(text, code, _conflicts(error) if code == CONFLICT else ())
        case httpx2.HTTPStatusError():
            return _of_status(error.response)
        case json.JSONDecodeError() | KeyError() if refused := _refused(error):
            return _of_status(refused)
        case ValidationError():
            return TroubleError(str(error))
        case json.JSONDecodeError() | DecodeError():
            return TroubleError(NOT_JSON.format(error))
        case ConfigError():
            return TroubleError(f"{error}{NO_CREDENTIALS}")
        case TimeoutError() | httpx2.TimeoutException():
            return TroubleError("no answer in time")
        case _:
            return TroubleError(str(error) or type(error).__name__)


def _refused(error: BaseException | None) -> httpx2.Response | None:
    """Return the answer with an error status that lightkube could not read, if there is one.

    It expects JSON, or at least a type of content.
    """
    while error is not None and type(error) is not httpx2.HTTPStatusError:
        error = error.__context__
    return error.response if isinstance(error, httpx2.HTTPStatusError) else None


def _of_status(response: httpx2.Response) -> TroubleError:
    code, target = response.status_code, response.headers.get("Location")
    hint = REDIRECTS.format(target) if response.is_redirect and target else ""
    return TroubleError(f"{code} {response.reason_phrase}{hint}", code)


def code_of(error: ApiError) -> int:
    """Return the HTTP status in an answer; 0 if there is none."""
    return error.status.code or 0


def _conflicts(error: ApiError) -> tuple[str, ...]:
    causes = (error.status.details.causes if error.status.details else None) or ()
    return tuple(str(cause.field) for cause in causes if cause.field)


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of an answer, within bounds."""

    def __init__(self, response: httpx2.Response) -> None:
        self._stream = cast("httpx2.AsyncByteStream", response.stream)
        self._watch = _is_watch(response)
        seconds = response.request.url.params.get("timeoutSeconds", "0")
        self._until = time.monotonic() + float(seconds) - TIMEOUT

    async def __aiter__(self) -> AsyncIterator[bytes]:
        bounded = answers.lines if self._watch else answers.whole
        async for data in bounded(self._stream):
            yield data
        if self._watch and time.monotonic() < self._until:
            # A server that stops ends the watches of all nodes, and lightkube begins them again.
            await asyncio.sleep(rejoin(random.random()))  # noqa: S311 - no secret

    async def aclose(self) -> None:
        await self._stream.aclose()


def _is_watch(response: httpx2.Response) -> bool:
    return "watch" in response.request.url.params


async def _bound(response: httpx2.Response) -> None:
    """Bound an answer before it is read."""
    if _is_watch(response):
        await asyncio.sleep(PAUSE)  # lightkube begins a watch again as soon as the server ends it
    coding = response.headers.get("Content-Encoding", "identity")
    if coding != "identity":  # not requested, and a few bytes could become gigabytes
        raise TroubleError(f'the answer is compressed ("{coding}"), but must not be')
    response.encoding = "utf-8"  # whatever the answer says: some codecs take very long
    response.stream = _Bounded(response)


def connect() -> AsyncClient:
    """Return a bounded client with the credentials of the pod or of a kubeconfig file."""
    made = AsyncClient(timeout=httpx2.Timeout(TIMEOUT), field_manager=COMPONENT)
    # lightkube offers no hooks. A transport of our own would lose the proxy of the environment.
    client = made._client._client  # noqa: SLF001
    client.headers["Accept-Encoding"] = "identity"
    client.event_hooks = {"response": [_bound]}
    return made
