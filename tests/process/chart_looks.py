"""Where a test looks in what the chart makes."""

from collections.abc import Callable
from typing import Any

import yaml

from tests.fakes.helm import Object, container, environment, mounts, pod, the

Look = Callable[[list[Object]], Any]
Case = tuple[dict[str, Any], Look, Any]
"""Values, where to look, and what is there then."""


def variable(name: str) -> Look:
    """Look at a variable of the container; None if it is not there."""
    return lambda objects: environment(objects).get(name)


def at(kind: str, *path: str | int) -> Look:
    """Look at a field of the only object of its kind."""

    def look(objects: list[Object]) -> Any:
        value: Any = the(objects, kind)
        for key in path:
            value = value[key]
        return value

    return look


def of_pod(field: str) -> Look:
    """Look at a field of the pods."""
    return lambda objects: pod(objects).get(field)


def of_container(field: str) -> Look:
    """Look at a field of the container."""
    return lambda objects: container(objects).get(field)


def mounted(path: str) -> Look:
    """Look at what is mounted there; None if nothing is."""
    return lambda objects: mounts(objects).get(path)


def annotations(kind: str) -> Look:
    """Look at an object's annotations."""
    return at(kind, "metadata", "annotations")


def label(kind: str, name: str) -> Look:
    """Look at one of an object's labels."""
    return at(kind, "metadata", "labels", name)


def kinds(objects: list[Object]) -> set[str]:
    """Look at what kinds of objects there are."""
    return {one["kind"] for one in objects}


def file(name: str, key: str) -> Look:
    """Look at what a YAML file in a ConfigMap says."""

    def look(objects: list[Object]) -> Any:
        maps = {one["metadata"]["name"]: one for one in objects if one["kind"] == "ConfigMap"}
        return yaml.safe_load(maps[f"gpus-gpu-sharing-plugin{name}"]["data"][key])

    return look


def privileged(objects: list[Object]) -> bool:
    """Look whether the container is privileged."""
    return bool(container(objects)["securityContext"].get("privileged"))


def health(key: str, value: object) -> Case:
    """Return the case of a value of the health policy."""
    said = {"health": {key: value}}
    return said, file("-settings", "config.yaml"), said | {"version": "v1"}


def recovery(key: str, value: object) -> Case:
    """Return the case of a value of the recovery policy."""
    return health("recovery", {key: value})
