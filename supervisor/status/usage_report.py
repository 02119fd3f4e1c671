"""The usage of GPUs and MIG instances in the JSON of /status; figures are those of the driver.

Fields may be added, but never renamed or removed. An unknown value is null, never 0 or empty.
"""

import enum

from msgspec import Struct


class HolderKind(enum.StrEnum):
    """Who uses or holds a GPU or MIG instance."""

    CONTAINER = "container"
    """A container that holds the device, or may hold it while the kubelet does not answer."""
    UNALLOCATED = "unallocated"
    """A container that uses the device without holding it."""
    HOST = "host"
    """All processes that are in no container, together."""
    UNKNOWN = "unknown"
    """All processes whose container is unknown, together."""
    MPS = "mps"
    """The MPS server of the device, which keeps some memory for itself."""


class HolderUse(Struct, frozen=True, kw_only=True):
    """How much of a GPU or MIG instance a container, or another user, has in use."""

    kind: HolderKind
    """Whether it is a container and holds the device; all processes of the `host` are one entry."""
    namespace: str | None = None
    """The pod's namespace; null: not a container."""
    pod: str | None = None
    """The pod's name; null: not a container."""
    container: str | None = None
    """The container's name; null: not a container, or unknown."""
    resource: str | None = None
    """The resource of the devices that the container holds; null: it holds none."""
    held: int = 0
    """Devices that the container holds of this GPU or MIG instance; each replica counts."""
    processes: int | None = None
    """Processes that use the GPU or MIG instance."""
    memory_used_bytes: int | None = None
    """Memory of the GPU or MIG instance that these processes use, together."""
    memory_share_bytes: int | None = None
    """Memory that comes to the held devices: all memory / replicas x held."""
    utilization_percent: int | None = None
    """Utilization by these processes, together, since the sample before; MIG instances: null."""


class DeviceUse(Struct, frozen=True, kw_only=True):
    """How much of a GPU or MIG instance is in use; of an instance, only memory is known."""

    utilization_percent: int | None
    """Percent of the time in which the GPU worked."""
    memory_utilization_percent: int | None
    """Percent of the time in which memory was read or written."""
    memory_used_bytes: int | None
    """Memory in use, without the memory that the driver reserves for itself."""
    memory_total_bytes: int | None
    """All memory, with the reserved memory."""
    memory_reserved_bytes: int | None
    """Memory that the driver reserves for itself."""
    temperature_celsius: int | None
    """Temperature of the GPU."""
    power_watts: float | None
    """Power that the GPU draws."""
    power_limit_watts: float | None
    """Power limit that the driver enforces."""
    sm_clock_mhz: int | None
    """Clock of the multiprocessors."""
    memory_clock_mhz: int | None
    """Clock of the memory."""
    leaked_bytes: int | None
    """Memory in use on a device that is not shared and that no container holds; 0: it is clean."""
    holders: tuple[HolderUse, ...] | None
    """Who holds or uses it, the most memory first; null: neither kubelet nor driver tells."""


class NodeUse(Struct, frozen=True):
    """The sampling of usage on this node."""

    interval: float
    """Seconds between two samples."""
    received: float
    """When the newest samples arrived, as unix time."""
    problem: str | None
    """Why the figures of containers are unknown, and what to do; null: they are known."""
