"""The objects of the Kubernetes API that carry the node's labels, as values.

The node's own labels are applied as in server-side apply: the server knows which keys are ours, and
removes one that we no longer send.
https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from supervisor.labels.schedule import Content

Json = dict[str, Any]

MANAGER = "gpu-sharing-plugin-labels"
"""Our name as the manager of labels: other parts of the plugin manage other fields."""

NFD_NODE = "nfd.node.kubernetes.io/node-name"
"""The label that tells NFD which node a NodeFeature object is about."""

FEATURE = "nvidia.gpu"
"""The name of our facts for rules of NFD."""

LONGEST_NAME = 253
"""Characters of the name of an object."""

PREFIX = "gpu-sharing-plugin-"


def labels_of(thing: Json) -> dict[str, str]:
    """Return the labels of an object."""
    found = _part(_part(thing, "metadata"), "labels")
    return {str(key): str(value) for key, value in found.items()}


def owned(node: Json) -> set[str]:
    """Return the keys of the node's labels that we have applied."""
    return {key for manager, keys in _managed(node) if manager == MANAGER for key in keys}


def held_by_others(node: Json, labels: Mapping[str, str]) -> set[str]:
    """Return the keys of *labels* that another manager has set to another value.

    The server would refuse these: the other one is a person, or a program that would set them back.
    """
    there = labels_of(node)
    others = {key for manager, keys in _managed(node) if manager != MANAGER for key in keys}
    return {key for key in others & labels.keys() & there.keys() if there[key] != labels[key]}


def _managed(node: Json) -> Iterator[tuple[object, set[str]]]:
    """Yield each manager of fields and the keys of labels that it owns."""
    entries = _part(node, "metadata").get("managedFields")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            fields = _part(_part(_part(entry, "fieldsV1"), "f:metadata"), "f:labels")
            keys = {key.removeprefix("f:") for key in fields if key.startswith("f:")}
            yield entry.get("manager"), keys


def is_labelled(node: Json, labels: Mapping[str, str]) -> bool:
    """Return whether the *node* has exactly these of our labels, and they are ours."""
    there = labels_of(node)
    return owned(node) == labels.keys() and all(there.get(k) == v for k, v in labels.items())


def node(found: Json, labels: Mapping[str, str]) -> Json:
    """Return what to apply to the node that was *found*, so that it has these of our labels."""
    metadata = _part(found, "metadata")
    wanted = {"name": metadata.get("name"), "labels": dict(labels)}
    # With its UID a node that is deleted meanwhile is a conflict, and is not created again.
    if uid := metadata.get("uid"):
        wanted["uid"] = uid
    return {"apiVersion": "v1", "kind": "Node", "metadata": wanted}


def contested(conflicts: Iterable[str], labels: Mapping[str, str]) -> set[str]:
    """Return the keys of *labels* that are in the fields of *conflicts*, as the server names them.

    It writes them as `.metadata.labels.nvidia.com/gpu.count`.
    """
    start = ".metadata.labels."
    return {field.removeprefix(start) for field in conflicts} & labels.keys()


def feature_name(node_name: str) -> str:
    """Return the name of the NodeFeature object of a node."""
    name = PREFIX + node_name
    if len(name) <= LONGEST_NAME:
        return name
    end = hashlib.sha256(node_name.encode()).hexdigest()[:16]
    return f"{name[: LONGEST_NAME - 1 - len(end)].rstrip('-.')}-{end}"


def feature(node_name: str, namespace: str, owners: list[Json], content: Content) -> Json:
    """Return the NodeFeature object of a node, which its *owners* take along when they go."""
    elements = [{"attributes": dict(gpu)} for gpu in content.gpus]
    metadata: Json = {
        "name": feature_name(node_name),
        "namespace": namespace,
        "labels": {NFD_NODE: node_name},
    }
    if owners:
        metadata["ownerReferences"] = owners
    return {
        "apiVersion": "nfd.k8s-sigs.io/v1alpha1",
        "kind": "NodeFeature",
        "metadata": metadata,
        "spec": {
            "labels": dict(content.labels),
            "features": {
                "flags": {},
                "attributes": {},
                "instances": {FEATURE: {"elements": elements}},
            },
        },
    }


def is_featured(found: Json | None, wanted: Json) -> bool:
    """Return whether the object that was *found* says the same as the one that is *wanted*."""
    if found is None:
        return False
    theirs, ours = _part(found, "metadata"), wanted["metadata"]
    owners = {owner["uid"] for owner in ours.get("ownerReferences", ())}
    there = theirs.get("ownerReferences")
    references = there if isinstance(there, list) else ()
    known = {str(o.get("uid")) for o in references if isinstance(o, dict)}
    same = labels_of(found).get(NFD_NODE) == ours["labels"][NFD_NODE]
    return same and owners <= known and _facts(found) == _facts(wanted)


def _facts(thing: Json) -> tuple[Json, object]:
    spec = _part(thing, "spec")
    instances = _part(_part(spec, "features"), "instances")
    return _part(spec, "labels"), _part(instances, FEATURE).get("elements")


def owners(pod: Json | None) -> list[Json]:
    """Return who owns the NodeFeature object: the DaemonSet of our *pod*, or else the pod itself.

    So the object stays while an upgrade replaces the pod, and goes when the DaemonSet is deleted.
    """
    if pod is None:
        return []
    metadata = _part(pod, "metadata")
    above = metadata.get("ownerReferences")
    found = [o for o in above if isinstance(o, dict)] if isinstance(above, list) else []
    itself = {"apiVersion": "v1", "kind": "Pod"} | {k: metadata.get(k) for k in ("name", "uid")}
    keys = ("apiVersion", "kind", "name", "uid")
    chosen = [owner for owner in found if owner.get("controller")] or [itself]
    return [{key: str(owner.get(key, "")) for key in keys} for owner in chosen if owner.get("uid")]


def _part(thing: Json, key: str) -> Json:
    """Return the mapping at *key*, whatever the server sent; empty if there is none."""
    found = thing.get(key)
    return found if isinstance(found, dict) else {}
