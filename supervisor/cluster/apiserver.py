"""Requests to the Kubernetes API through lightkube, each with a timeout.

All failures of the server or the library leave this module as a TroubleError.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from lightkube import AsyncClient
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_global_resource, create_namespaced_resource
from lightkube.resources.core_v1 import Event, Node, NodeStatus
from lightkube.types import PatchType

from supervisor.cluster.connection import (
    COMPONENT,
    CONFLICT,
    NOT_FOUND,
    PAUSE,
    TIMEOUT,
    TroubleError,
    code_of,
    connect,
    within,
)
from supervisor.cluster.handover import annotations
from supervisor.cluster.node_events import NodeEvent

NAMESPACE = "default"
"""The namespace for Events of nodes, as nodes have none; the kubelet uses it too."""

WATCH = 300
"""Seconds without news after which a watch is ended and the node is read again; at most twice as
many. Each watch draws its own, so that watches that began together do not end together."""

Json = dict[str, Any]

DRA = ("resource.k8s.io", "v1")
"""Group and version of DRA's objects, which Kubernetes has since 1.34."""

KINDS: dict[str, Any] = {
    "ResourceSlice": create_global_resource(*DRA, "ResourceSlice", "resourceslices"),
    "DeviceClass": create_global_resource(*DRA, "DeviceClass", "deviceclasses"),
    "Node": create_global_resource("", "v1", "Node", "nodes"),
    "Pod": create_namespaced_resource("", "v1", "Pod", "pods"),
    "NodeFeature": create_namespaced_resource(
        "nfd.k8s-sigs.io", "v1alpha1", "NodeFeature", "nodefeatures"
    ),
}
"""The kinds of objects that are read and applied as plain values."""


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
            self._made = connect()
        return self._made

    async def close(self) -> None:
        """Close the connections, for a command that ends; the service keeps them."""
        if self._made is not None:
            await self._made.close()

    async def send(self, name: str, event: NodeEvent) -> None:
        """Create the Event *name* from *event*, or update it and increase its count."""
        async with within(TIMEOUT):
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
            if code_of(error) != CONFLICT:
                raise
            self._counts[name] = 1
            return 0 if event.initial else 1
        self._counts[name] = event.count
        return 0

    async def _repeat(self, name: str, event: NodeEvent, count: int) -> None:
        count = count + event.count
        news = {
            "metadata": {"annotations": annotations(event.told)},
            "count": count,
            "lastTimestamp": stamp(event.last),
            "message": event.message,
        }
        try:
            await self._client().patch(
                Event, name, news, namespace=NAMESPACE, patch_type=PatchType.MERGE
            )
        except ApiError as error:
            if code_of(error) != NOT_FOUND:
                raise
            # Gone: the server deletes an Event after an hour, by default.
            await self._create(name, event)
        else:
            self._counts[name] = count

    async def conditions(self) -> Mapping[str, tuple[str, str]]:
        """Return the status and the message of each of the node's conditions, by type."""
        async with within(TIMEOUT):
            node = await self._client().get(Node, self._node)
            found = (node.status.conditions if node.status else None) or ()
            return {each.type: (each.status, each.message or "") for each in found}

    async def taints(self) -> tuple[str, list[Json]]:
        """Return the node's version and its taints."""
        async with within(TIMEOUT):
            node = dict(await self._client().get(KINDS["Node"], self._node))
            taints = (node.get("spec") or {}).get("taints") or []
            return str(node["metadata"].get("resourceVersion", "")), list(taints)

    async def set_taints(self, version: str, taints: list[Json]) -> None:
        """Replace the node's taints, if the node still has this *version*.

        The list is one value for the server, so what others have changed meanwhile would be lost.
        """
        body = {"metadata": {"resourceVersion": version}, "spec": {"taints": taints}}
        async with within(TIMEOUT):
            kind = PatchType.MERGE
            await self._client().patch(KINDS["Node"], self._node, body, patch_type=kind)

    async def patch_status(self, patch: Mapping[str, Any]) -> None:
        """Apply *patch* to the node's status as a strategic merge patch."""
        async with within(TIMEOUT):
            kind = PatchType.STRATEGIC
            await self._client().patch(NodeStatus, self._node, dict(patch), patch_type=kind)

    async def namespace(self) -> str:
        """Return the namespace of our pod, or the one that the kubeconfig file names."""
        async with within(TIMEOUT):
            return str(self._client().namespace)

    async def read(self, kind: str, name: str) -> Json | None:
        """Return the object *name* of a *kind* in KINDS; None if there is none."""
        async with within(TIMEOUT):
            try:
                return dict(await self._client().get(KINDS[kind], name))
            except ApiError as error:
                if code_of(error) != NOT_FOUND:
                    raise
                return None

    async def dra(self) -> tuple[list[Json], list[Json]]:
        """Return this node's ResourceSlices and all DeviceClasses; none in a cluster without."""
        async with within(TIMEOUT):
            client = self._client()
            try:
                found = client.list(KINDS["ResourceSlice"], fields={"spec.nodeName": self._node})
                slices = [dict(each) async for each in found]
                return slices, [dict(each) async for each in client.list(KINDS["DeviceClass"])]
            except ApiError as error:
                if code_of(error) != NOT_FOUND:
                    raise
                return [], []

    async def apply(self, wanted: Json, manager: str, *, force: bool = False) -> None:
        """Apply *wanted* on the server as the *manager* of its fields.

        A field that another manager owns with another value is a conflict, unless *force* takes it.
        """
        async with within(TIMEOUT):
            await self._client().patch(
                KINDS[wanted["kind"]],
                wanted["metadata"]["name"],
                wanted,
                patch_type=PatchType.APPLY,
                field_manager=manager,
                force=force,
            )

    async def delete(self, kind: str, name: str) -> bool:
        """Delete the object *name* of a *kind* in KINDS; return whether there was one."""
        async with within(TIMEOUT):
            try:
                await self._client().delete(KINDS[kind], name)
            except ApiError as error:
                if code_of(error) != NOT_FOUND:
                    raise
                return False
            return True

    async def labels(self, label: str) -> AsyncGenerator[str, None]:
        """Yield the value of the node's *label* now and at each change; empty if there is none.

        End with a TroubleError.
        """
        while True:
            async with within(TIMEOUT):
                node = await self._client().get(Node, self._node)
            yield (value := label_of(node, label))
            with contextlib.suppress(_QuietError):
                async for changed in self._watch(node):
                    before, value = value, label_of(changed, label)
                    if value != before:
                        yield value
                    await asyncio.sleep(PAUSE)

    async def _watch(self, node: Node) -> AsyncIterator[Node]:
        """Yield the node at each change; _QuietError when there was none for long."""
        version = node.metadata.resourceVersion if node.metadata else None
        seconds = int(WATCH * (1 + random.random()))  # noqa: S311 - no secret
        events = aiter(
            self._client().watch(
                Node,
                fields={"metadata.name": self._node},
                resource_version=version,
                server_timeout=seconds,
            )
        )
        while True:
            async with within(seconds + TIMEOUT):
                try:
                    async with asyncio.timeout(seconds):
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
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "annotations": annotations(event.told),
            },
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
