"""The Kubernetes API, through lightkube: what we ask of it, each time bounded in time.

Whatever the server or the library comes up with leaves this module as a TroubleError.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import Event, Node, NodeStatus
from lightkube.types import PatchType

from supervisor.cluster.node_events import Telling

COMPONENT = "gpu-sharing-plugin"

NAMESPACE = "default"
"""Where Events of nodes are, which are in no namespace; the kubelet's are there too."""

TIMEOUT = 5.0
"""Seconds for a request as a whole; a server that sends a byte now and then is no exception."""

WATCH = 300
"""Seconds for which a watch is trusted without a word; then the node is asked for anew."""

NOT_FOUND, CONFLICT = 404, 409


class TroubleError(Exception):
    """A request that failed, in one line; *code* is the answer's status, 0 without one."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(" ".join(text.split()))
        self.code = code


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TroubleError:
        raise
    except Exception as error:  # whatever it is, the next attempt is all that can be done
        raise _trouble(error) from error


def _trouble(error: Exception) -> TroubleError:
    match error:
        case ApiError():
            return TroubleError(f"{error.status.code} {error.status.message}", _code(error))
        case httpx2.HTTPStatusError():
            code = error.response.status_code
            return TroubleError(f"{code} {error.response.reason_phrase}", code)
        case TimeoutError() | httpx2.TimeoutException():
            return TroubleError("no answer in time")
        case _:
            return TroubleError(str(error) or type(error).__name__)


def _code(error: ApiError) -> int:
    return error.status.code or 0


class ApiServer:
    """What this node's plugin says to its cluster, and asks of it."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._made: AsyncClient | None = None
        self._told: dict[str, int] = {}
        """How often an Event was told, by its name."""

    def _client(self) -> AsyncClient:
        """Return the client, made when it is needed: its credentials may come late."""
        if self._made is None:
            self._made = AsyncClient(timeout=httpx2.Timeout(TIMEOUT), field_manager=COMPONENT)
        return self._made

    async def tell(self, name: str, telling: Telling) -> None:
        """Have an Event called *name* that says this, and says how often it was told."""
        async with _within(TIMEOUT):
            told = self._told.get(name)
            if told is None:
                told = await self._create(name, telling)
            if told:
                await self._repeat(name, telling, told)

    async def _create(self, name: str, telling: Telling) -> int:
        """Create an Event; return how often it was told before if it has to be told again."""
        try:
            await self._client().create(_event(self._node, name, telling))
        except ApiError as error:
            if _code(error) != CONFLICT:
                raise
            self._told[name] = 1
            return 0 if telling.initial else 1
        self._told[name] = telling.count
        return 0

    async def _repeat(self, name: str, telling: Telling, told: int) -> None:
        count = told + telling.count
        news = {"count": count, "lastTimestamp": stamp(telling.last), "message": telling.message}
        try:
            await self._client().patch(
                Event, name, news, namespace=NAMESPACE, patch_type=PatchType.MERGE
            )
        except ApiError as error:
            if _code(error) != NOT_FOUND:
                raise
            # The server keeps an Event for an hour, by default.
            await self._create(name, telling)
        else:
            self._told[name] = count

    async def conditions(self) -> Mapping[str, str]:
        """Return the status of each of the node's conditions, by type."""
        async with _within(TIMEOUT):
            node = await self._client().get(Node, self._node)
            found = (node.status.conditions if node.status else None) or ()
            return {one.type: one.status for one in found}

    async def patch_status(self, patch: Mapping[str, Any]) -> None:
        """Patch the node's status, by strategic merge."""
        async with _within(TIMEOUT):
            kind = PatchType.STRATEGIC
            await self._client().patch(NodeStatus, self._node, dict(patch), patch_type=kind)

    async def labels(self, label: str) -> AsyncIterator[str]:
        """Yield the node's *label* (empty: none) now and when it changes, until trouble comes."""
        while True:
            async with _within(TIMEOUT):
                node = await self._client().get(Node, self._node)
            yield _label(node, label)
            with contextlib.suppress(_QuietError):
                async for changed in self._watch(node):
                    yield _label(changed, label)

    async def _watch(self, node: Node) -> AsyncIterator[Node]:
        """Yield the node at each change; _QuietError after a while without any."""
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
    """A watch that said nothing, which may be well or not."""

    def __init__(self) -> None:
        super().__init__("quiet")


def _label(node: Node, label: str) -> str:
    labels = (node.metadata.labels if node.metadata else None) or {}
    return str(labels.get(label, ""))


def stamp(at: float) -> str:
    """Return a unix time as Kubernetes writes it, in seconds."""
    return datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")


def _event(node: str, name: str, telling: Telling) -> Event:
    # As the kubelet's own: a node's uid is its name, or `kubectl describe node` would not show it.
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": NAMESPACE},
            "involvedObject": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node},
            "reason": telling.reason,
            "message": telling.message,
            "type": "Warning" if telling.warning else "Normal",
            "source": {"component": COMPONENT, "host": node},
            "reportingComponent": COMPONENT,
            "reportingInstance": node,
            "firstTimestamp": stamp(telling.first),
            "lastTimestamp": stamp(telling.last),
            "count": telling.count,
        },
        Event,
    )
