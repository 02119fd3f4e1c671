"""Name pods and containers by the kubelet's log folders, without the API server.

The kubelet makes a folder NAMESPACE_NAME_UID in /var/log/pods for each pod, and a link
POD_NAMESPACE_CONTAINER-ID.log in /var/log/containers for each container that it has started.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from supervisor.exporter.usage_cgroup import Location
from supervisor.status.usage_owner import HOST, UNKNOWN, Owner, OwnerKind

NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
POD = re.compile(rf"(?P<namespace>{NAME})_(?P<pod>{NAME})_(?P<uid>[A-Za-z0-9-]{{1,128}})")
LINK = re.compile(
    rf"(?P<pod>{NAME})_(?P<namespace>{NAME})_(?P<container>{NAME})-(?P<id>[0-9a-f]+)\.log"
)

ID_LENGTH = 64
LONGEST_LINK = 255
"""Length of a link's name that the kubelet has cut at the end of the container's ID."""

LEAST_ID = 12
"""Digits of a cut ID that still identify one of the pod's containers."""

Pod = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, slots=True)
class LogFolders:
    """The pods and containers that the kubelet's log folders name."""

    pods: Mapping[str, Pod | None] = field(default_factory=dict)
    """By UID; None: two folders have this UID."""
    containers: Mapping[Pod, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """The IDs, perhaps cut, and names of a pod's containers."""


def read_names(pods: Iterable[str], links: Iterable[str]) -> LogFolders:
    """Return what the names in the two folders say; other names are skipped."""
    by_uid: dict[str, Pod | None] = {}
    for match in filter(None, map(POD.fullmatch, pods)):
        uid, pod = match["uid"], (match["namespace"], match["pod"])
        by_uid[uid] = pod if by_uid.get(uid, pod) == pod else None
    containers: defaultdict[Pod, list[tuple[str, str]]] = defaultdict(list)
    for match in filter(None, map(LINK.fullmatch, links)):
        least = LEAST_ID if len(match[0]) == LONGEST_LINK else ID_LENGTH
        if least <= len(match["id"]) <= ID_LENGTH:
            containers[match["namespace"], match["pod"]].append((match["id"], match["container"]))
    return LogFolders(by_uid, {pod: tuple(found) for pod, found in containers.items()})


def owner(location: Location | None, folders: LogFolders) -> Owner:
    """Return whose a process at *location* is, as far as the log folders confirm it."""
    if location is None:
        return HOST
    pod = folders.pods.get(location.pod_uid) if location.pod_uid else _holder(location, folders)
    if pod is None:
        return UNKNOWN
    return Owner(OwnerKind.CONTAINER, *pod, _name(location.container_id, pod, folders))


def _name(container: str, pod: Pod, folders: LogFolders) -> str:
    """Return the name of the pod's container with this ID; empty: the folders do not tell."""
    known = folders.containers.get(pod, ())
    names = {name for start, name in known if container.startswith(start)}
    return names.pop() if len(names) == 1 else ""


def _holder(location: Location, folders: LogFolders) -> Pod | None:
    """Return the pod whose container has the whole ID; None: none has, or its UID is unknown."""
    pods = {
        pod
        for pod, known in folders.containers.items()
        if any(known_id == location.container_id for known_id, _ in known)
    } & set(folders.pods.values())
    return pods.pop() if len(pods) == 1 else None
