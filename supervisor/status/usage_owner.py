"""Whose the processes are that use the GPUs."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class OwnerKind(enum.StrEnum):
    """What is known about the owner of a process."""

    CONTAINER = "container"
    """A container of a pod that the kubelet knows."""
    HOST = "host"
    """No container: the process was started on the host itself."""
    UNKNOWN = "unknown"
    """The process has ended, or is in a pod that the kubelet's log folders do not confirm."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a process is."""

    kind: OwnerKind
    namespace: str = ""
    pod: str = ""
    container: str = ""
    """Empty: unknown, for example until the kubelet has linked the log of a new container."""


HOST = Owner(OwnerKind.HOST)
UNKNOWN = Owner(OwnerKind.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Owners:
    """The owners of all processes of one UsageState."""

    of: Mapping[tuple[str, int], Owner] = field(default_factory=dict)
    """By the UUID of the GPU or MIG instance, and PID; a missing process is UNKNOWN."""
    problem: str = ""
    """Why owners are not known at all; empty: they are."""
