"""Requests to the Kubernetes API through lightkube, each with a timeout.

All failures of the server or the library leave this module as a TroubleError. Answers are bounded:
a server that sends too much fails like a server that sends nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import httpx2
import msgspec
from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import Event, Node, NodeStatus
from lightkube.types import PatchType

from proto.texts import shortened
from supervisor.cluster import answers
from supervisor.cluster.node_events import NodeEvent

COMPONENT = "gpu-sharing-plugin"

NAMESPACE = "default"
"""The namespace for Events of nodes, as nodes have none; the kubelet uses it too."""

TIMEOUT = 5.0
"""Seconds for a whole request, even if the server keeps sending single bytes."""

WATCH = 300
"""Seconds without news after which a watch is ended and the node is read again."""

PAUSE = 0.1
"""Seconds before a watch, and between two of its events; else a server could keep a core busy."""

LONGEST_REASON = 300
"""Characters of the message of a TroubleError; a server may answer with any text."""

FORBIDDEN, NOT_FOUND, CONFLICT = 403, 404, 409

NO_RIGHT = "; give the service account this right by RBAC, see docs/cluster.md#permissions"


class TroubleError(Exception):
    """A request that failed; the message is one line, *code* the HTTP status or 0."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(shortened(" ".join(text.split()), LONGEST_REASON))
        self.code = code


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
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
            hint = NO_RIGHT if _code(error) == FORBIDDEN else ""
            return TroubleError(f"{error.status.code} {error.status.message}{hint}", _code(error))
        case httpx2.HTTPStatusError():
            code = error.response.status_code
            return TroubleError(f"{code} {error.response.reason_phrase}", code)
        case TimeoutError() | httpx2.TimeoutException():
            return TroubleError("no answer in time")
        case _:
            return TroubleError(str(error) or type(error).__name__)


def _code(error: ApiError) -> int:
    return error.status.code or 0


class _Bounded(httpx2.AsyncByteStream):
    """The bytes of an answer, within bounds."""

    def __init__(self, response: httpx2.Response) -> None:
        self._stream = cast("httpx2.AsyncByteStream", response.stream)
        self._watch = _is_watch(response)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        bounded = answers.lines if self._watch else answers.whole
        async for data in bounded(self._stream):
            yield data

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


def _connect() -> AsyncClient:
    made = AsyncClient(timeout=httpx2.Timeout(TIMEOUT), field_manager=COMPONENT)
    # lightkube offers no hooks. A transport of our own would lose the proxy of the environment.
    client = made._client._client  # noqa: SLF001
    client.headers["Accept-Encoding"] = "identity"
    client.event_hooks = {"response": [_bound]}
    return made


class ApiServer:
    """The requests of this node's plugin to the Kubernetes API."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._made: AsyncClient | None = None
        self._counts: dict[str, int] = {}
        """By name of an Event: the count it has on the server."""

    def _client(self) -> AsyncClient:
        """Return the client; it is made at the first request, as credentials may appear late."""
        if self._made is None:
            self._made = _connect()
        return self._made

    async def send(self, name: str, event: NodeEvent) -> None:
        """Create the Event *name* from *event*, or update it and increase its count."""
        async with _within(TIMEOUT):
            count = self._counts.get(name)
            if count is None:
                count = await self._create(name, event)
            if count:
                await self._repeat(name, event, count)

    async def _create(self, name: str, event: NodeEvent) -> int:
        """Create an Event; if it exists and must be updated, return its count, else 0."""
        try:
            await self._client().create(_event(self._node, name, event))
        except ApiError as error:
            if _code(error) != CONFLICT:
                raise
            self._counts[name] = 1
            return 0 if event.initial else 1
        self._counts[name] = event.count
        return 0

    async def _repeat(self, name: str, event: NodeEvent, count: int) -> None:
        count = count + event.count
        news = {"count": count, "lastTimestamp": stamp(event.last), "message": event.message}
        try:
            await self._client().patch(
                Event, name, news, namespace=NAMESPACE, patch_type=PatchType.MERGE
            )
        except ApiError as error:
            if _code(error) != NOT_FOUND:
                raise
            # Gone: the server deletes an Event after an hour, by default.
            await self._create(name, event)
        else:
            self._counts[name] = count

    async def conditions(self) -> Mapping[str, str]:
        """Return the status of each of the node's conditions, by type."""
        async with _within(TIMEOUT):
            node = await self._client().get(Node, self._node)
            found = (node.status.conditions if node.status else None) or ()
            return {condition.type: condition.status for condition in found}

    async def patch_status(self, patch: Mapping[str, Any]) -> None:
        """Apply *patch* to the node's status as a strategic merge patch."""
        async with _within(TIMEOUT):
            kind = PatchType.STRATEGIC
            await self._client().patch(NodeStatus, self._node, dict(patch), patch_type=kind)

    async def labels(self, label: str) -> AsyncGenerator[str, None]:
        """Yield the value of the node's *label* now and at each change; empty if there is none.

        End with a TroubleError.
        """
        while True:
            async with _within(TIMEOUT):
                node = await self._client().get(Node, self._node)
            yield (value := label_of(node, label))
            with contextlib.suppress(_QuietError):
                async for changed in self._watch(node):
                    before, value = value, label_of(changed, label)
                    if value != before:
                        yield value
                    await asyncio.sleep(PAUSE)

    async def _watch(self, node: Node) -> AsyncIterator[Node]:
        """Yield the node at each change; _QuietError after WATCH seconds without a change."""
        version = node.metadata.resourceVersion if node.metadata else None
        events = aiter(
            self._client().watch(
                Node,
                fields={"metadata.name": self._node},
                resource_version=version,
                server_timeout=WATCH,
            )
        )
        while True:
            async with _within(WATCH + TIMEOUT):
                try:
                    async with asyncio.timeout(WATCH):
                        kind, changed = await anext(events)
                except TimeoutError:
                    raise _QuietError from None
            if kind in {"ADDED", "MODIFIED"}:
                yield changed


class _QuietError(TroubleError):
    """A watch without news: nothing changed, or the connection is dead."""

    def __init__(self) -> None:
        super().__init__("quiet")


def label_of(node: Node, label: str) -> str:
    """Return the value of the node's *label*, of any length; empty if there is none."""
    labels = (node.metadata.labels if node.metadata else None) or {}
    return str(labels.get(label, ""))


def stamp(at: float) -> str:
    """Return a unix time in the format of Kubernetes, to the second."""
    return datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")


def _event(node: str, name: str, event: NodeEvent) -> Event:
    # The uid is the node's name, as in the kubelet's Events: `kubectl describe node` needs that.
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": NAMESPACE},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
            "reason": event.reason,
            "message": event.message,
            "type": "Warning" if event.warning else "Normal",
            "source": {"component": COMPONENT, "host": node},
            "reportingComponent": COMPONENT,
            "reportingInstance": node,
            "firstTimestamp": stamp(event.first),
            "lastTimestamp": stamp(event.last),
            "count": event.count,
        },
        Event,
    )
