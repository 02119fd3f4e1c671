"""Brings the node's labels to the API server: to the node itself, or to NFD's NodeFeature object.

Each output first reads what is there, and writes only if it differs: a restart writes nothing.
"""

from typing import Protocol

from loguru import logger

from proto.labels import LabelOutput, LabelSettings
from supervisor.cluster import label_objects
from supervisor.cluster.apiserver import ApiServer, Json
from supervisor.cluster.connection import FORBIDDEN, NOT_FOUND, TroubleError
from supervisor.labels.schedule import Content
from supervisor.labels.writer import OutputError


class Output(Protocol):
    """Where labels go."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    async def put(self, content: Content) -> bool:
        """Bring what is there in line with *content*; return whether that took a write."""

    async def remove(self) -> bool:
        """Remove all of our labels; return whether there were any."""


class NodeOutput:
    """The labels of the node itself, without NFD; only keys that are ours are changed."""

    def __init__(self, api: ApiServer, node: str) -> None:
        self._api = api
        self._node = node
        self._left: frozenset[str] = frozenset()
        """Keys that others have set to another value, as it was logged."""

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f'the labels of ours on node "{self._node}"'

    async def put(self, content: Content) -> bool:
        """Bring the node's labels in line with *content*; OutputError if that fails."""
        return await self._bring(dict(content.labels))

    async def remove(self) -> bool:
        """Remove the labels that are ours; OutputError if that fails."""
        return await self._bring({})

    async def _bring(self, labels: dict[str, str]) -> bool:
        try:
            found = await self._api.read("Node", self._node)
            if found is None:
                raise OutputError(f'there is no node "{self._node}"; check --node-name')
            # A key that another manager holds with another value is left to it, each time anew.
            others = label_objects.held_by_others(found, labels)
            mine = {key: value for key, value in labels.items() if key not in others}
            wrote = not label_objects.is_labelled(found, mine)
            if wrote:
                others |= await self._apply(found, mine)
        except TroubleError as error:
            raise OutputError(str(error)) from error
        self._tell(frozenset(others))
        return wrote

    async def _apply(self, found: Json, labels: dict[str, str]) -> set[str]:
        """Apply *labels*; return the keys that another manager has taken since they were read."""
        try:
            await self._api.apply(label_objects.node(found, labels), label_objects.MANAGER)
        except TroubleError as error:
            others = label_objects.contested(error.conflicts, labels)
            if not others:
                raise
            rest = {key: value for key, value in labels.items() if key not in others}
            await self._api.apply(label_objects.node(found, rest), label_objects.MANAGER)
            return others
        return set()

    def _tell(self, left: frozenset[str]) -> None:
        if left and left != self._left:
            logger.warning(
                "left labels of the node alone, because others have set them", keys=sorted(left)
            )
        self._left = left


class FeatureOutput:
    """The NodeFeature object of the node, which NFD turns into labels."""

    def __init__(self, api: ApiServer, node: str, pod: str) -> None:
        """Write the object of *node*; it goes with the owner of *pod*, if that is known."""
        self._api = api
        self._node = node
        self._pod = pod
        self._owners: list[Json] | None = None

    @property
    def name(self) -> str:
        """What it is, for people."""
        return f'the NodeFeature object "{label_objects.feature_name(self._node)}"'

    async def put(self, content: Content) -> bool:
        """Bring the object in line with *content*; OutputError if that fails."""
        try:
            namespace = await self._api.namespace()
            owners = await self._find_owners()
            wanted = label_objects.feature(self._node, namespace, owners, content)
            found = await self._api.read("NodeFeature", wanted["metadata"]["name"])
            if label_objects.is_featured(found, wanted):
                return False
            # All of the object is ours, so nobody else's fields are taken.
            await self._api.apply(wanted, label_objects.MANAGER, force=True)
        except TroubleError as error:
            hint = "; install node feature discovery" if error.code == NOT_FOUND else ""
            raise OutputError(f"{error}{hint}") from error
        return True

    async def remove(self) -> bool:
        """Delete the object; OutputError if that fails."""
        try:
            return await self._api.delete("NodeFeature", label_objects.feature_name(self._node))
        except TroubleError as error:
            raise OutputError(str(error)) from error

    async def _find_owners(self) -> list[Json]:
        if not self._pod:
            return []
        if self._owners is None:
            try:
                self._owners = label_objects.owners(await self._api.read("Pod", self._pod))
            except TroubleError as error:
                if error.code != FORBIDDEN:
                    raise
                logger.warning(
                    "cannot read our own pod, so the NodeFeature object stays when it is removed",
                    reason=str(error),
                )
                self._owners = []
        return self._owners


def output(api: ApiServer, settings: LabelSettings, node: str) -> Output:
    """Return the output that *settings* name."""
    if settings.output is LabelOutput.NODE:
        return NodeOutput(api, node)
    return FeatureOutput(api, node, settings.pod)
