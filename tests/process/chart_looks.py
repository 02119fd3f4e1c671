"""Functions that find one thing in the objects that the chart renders."""

from collections.abc import Callable
from typing import Any

import yaml

from tests.fakes.helm import Object, container, environment, mounts, pod, the

Look = Callable[[list[Object]], Any]
Case = tuple[dict[str, Any], Look, Any]
"""Chart values, where to look in the objects, and what must be found there."""


def variable(name: str) -> Look:
    """Find the value of an environment variable of the container; None if it is not set."""
    return lambda objects: environment(objects).get(name)


def field_of(name: str) -> Look:
    """Find the field of the pod that an environment variable shows; None if it is not set."""

    def look(objects: list[Object]) -> Any:
        given = container(objects).get("env", [])
        found = [variable for variable in given if variable["name"] == name]
        return found[0]["valueFrom"]["fieldRef"]["fieldPath"] if found else None

    return look


def at(kind: str, *path: str | int) -> Look:
    """Find a field of the only object of a kind."""

    def look(objects: list[Object]) -> Any:
        value: Any = the(objects, kind)
        for key in path:
            value = value[key]
        return value

    return look


def of_pod(field: str) -> Look:
    """Find a field of the pod template."""
    return lambda objects: pod(objects).get(field)


def of_container(field: str) -> Look:
    """Find a field of the container."""
    return lambda objects: container(objects).get(field)


def mounted(path: str) -> Look:
    """Find the volume that is mounted at a path; None if there is none."""
    return lambda objects: mounts(objects).get(path)


def annotations(kind: str) -> Look:
    """Find the annotations of the object of a kind."""
    return at(kind, "metadata", "annotations")


def label(kind: str, name: str) -> Look:
    """Find a label of the object of a kind."""
    return at(kind, "metadata", "labels", name)


def kinds(objects: list[Object]) -> set[str]:
    """Find the kinds of the objects."""
    return {item["kind"] for item in objects}


def file(name: str, key: str) -> Look:
    """Find the parsed content of a YAML file in a ConfigMap."""

    def look(objects: list[Object]) -> Any:
        maps = {item["metadata"]["name"]: item for item in objects if item["kind"] == "ConfigMap"}
        return yaml.safe_load(maps[f"gpus-gpu-sharing-plugin{name}"]["data"][key])

    return look


def on_nodes_with(objects: list[Object]) -> list[str]:
    """Find the labels of which a node must have one."""
    affinity = pod(objects)["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return [term["matchExpressions"][0]["key"] for term in terms]


def health(key: str, value: object) -> Case:
    """Return the case for a value of the health policy."""
    said = {"health": {key: value}}
    return said, file("-settings", "config.yaml"), said | {"version": "v1"}


def grey(key: str, value: object) -> Case:
    """Return the case for a value of the grey failures."""
    return health("grey", {key: value})


def recovery(key: str, value: object) -> Case:
    """Return the case for a value of the recovery policy."""
    return health("recovery", {key: value})
