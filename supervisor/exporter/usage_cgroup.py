"""Find the pod and the container of a process in its cgroups, as /proc/PID/cgroup shows them.

The outermost pod of a path counts: what is below it, the pod itself may have created and named. So
may a container that is in no pod, and a user who is logged in. The kernel shows paths from the
reader's own cgroup namespace: `/../..` leads out of it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

POD_SLICE = re.compile(
    r"(?:.*-)?kubepods(?:-burstable|-besteffort)?-pod(?P<uid>.+?)\.slice(?::[a-z-]+:(?P<id>.+))?",
    re.DOTALL,
)
"""A pod's cgroup with the kubelet's systemd driver, which writes `_` for each `-` of the UID.

The container follows in the same name where a runtime took systemd's names for paths.
"""

POD_FOLDER = re.compile(r"pod(?P<uid>.+)", re.DOTALL)
"""A pod's cgroup with the kubelet's cgroupfs driver."""

OF_KUBELET = frozenset({"kubepods", "burstable", "besteffort", ".."})
"""What a pod's cgroup is in with the cgroupfs driver."""

CONTAINER = re.compile(r"(?:(?:cri-containerd|crio|docker)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?")
"""A container's cgroup, of containerd, CRI-O or Docker, with either driver."""

ANY_CONTAINER = re.compile(r"(?:[a-z-]+-)?[0-9a-f]{64}(?:\.scope)?")
"""A container's cgroup, of any runtime."""

OF_USERS = re.compile(r"user(?:-\d+)?\.slice|user@\d+\.service")
"""The cgroups of users who are logged in; below these, they give names as they like."""

DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class Location:
    """The pod and the container whose cgroups a process is in."""

    pod_uid: str
    """Empty: it is the reader's own pod, or unknown."""
    container_id: str
    """Empty: none of the pod's containers, or unknown."""


UNCLEAR = Location("", "")
"""The cgroups of a process name different pods."""


def nests(text: str) -> frozenset[str]:
    """Return the containers that the reader is in, by the text of its own /proc/PID/cgroup.

    A node that is itself a container, as in kind, has its pods in there.
    """
    return frozenset(p for path in _paths(text) for p in path if ANY_CONTAINER.fullmatch(p))


def locate(text: str, within: frozenset[str] = frozenset()) -> Location | None:
    """Return the location that a /proc/PID/cgroup names; None: the process is in no pod.

    *within* are the containers that the reader is in, as from `nests`.
    """
    found = {place for path in _paths(text) if (place := _in_path(path, within))}
    return found.pop() if len(found) == 1 else UNCLEAR if found else None


def _paths(text: str) -> Iterator[list[str]]:
    """Yield the parts of each path."""
    # Not splitlines: other separators than the line feed may be in the name of a cgroup.
    for line in text.split("\n"):
        _, _, path = line.partition(":")[2].partition(":")
        yield path.removesuffix(DELETED).lstrip("/").split("/")


def _in_path(parts: Sequence[str], within: frozenset[str]) -> Location | None:
    if parts[0] == ".." and (own := CONTAINER.fullmatch(parts[1] if parts[1:] else "")):
        return Location("", own["id"])
    for place, part in enumerate(parts):
        if OF_USERS.fullmatch(part) or (ANY_CONTAINER.fullmatch(part) and part not in within):
            return None
        if match := POD_SLICE.fullmatch(part):
            inside = [match["id"]] if match["id"] else parts[place + 1 :]
            return Location(match["uid"].replace("_", "-"), _container(inside))
        if place and parts[place - 1] in OF_KUBELET and (match := POD_FOLDER.fullmatch(part)):
            return Location(match["uid"], _container(parts[place + 1 :]))
    return None


def _container(parts: Sequence[str]) -> str:
    match = CONTAINER.fullmatch(parts[0]) if parts else None
    return match["id"] if match else ""
