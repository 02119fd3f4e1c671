"""What a worker is told: which devices to advertise, and how to hand them to containers."""

import enum

import msgspec

from proto.paths import Paths


class AllocationPolicy(enum.StrEnum):
    """How replicas and MIG instances are preferred, over physical GPUs."""

    DISTRIBUTED = "distributed"
    """Distinct GPUs first, then those with most left."""
    PACKED = "packed"
    """One GPU after the other, the fullest first."""
    SPREAD = "spread"
    """Distinct GPUs only: a request that needs more of them than there are is refused."""


class DeviceListStrategy(enum.StrEnum):
    """How a container is told which devices are its own; several may be combined."""

    ENVVAR = "envvar"
    """By NVIDIA_VISIBLE_DEVICES, for NVIDIA's container runtime."""
    VOLUME_MOUNTS = "volume-mounts"
    """By mounts for the same runtime, which no image can set itself."""
    CDI_ANNOTATIONS = "cdi-annotations"
    """By CDI names in an annotation."""
    CDI_CRI = "cdi-cri"
    """By CDI names in the CRI's own field."""


class DeviceIdStrategy(enum.StrEnum):
    """By what a device is named to a container."""

    UUID = "uuid"
    INDEX = "index"
    """The GPU's index, or `index:place` of a MIG instance."""


class Handout(msgspec.Struct, frozen=True):
    """How devices are handed to containers; the same for all resources."""

    list_strategies: tuple[DeviceListStrategy, ...] = (DeviceListStrategy.ENVVAR,)
    id_strategy: DeviceIdStrategy = DeviceIdStrategy.UUID
    pass_device_specs: bool = False
    dev_root: str = "/"
    """Below which the host has its device nodes."""
    cdi_kind: str = "k8s.device-plugin.nvidia.com/gpu"
    cdi_annotation_prefix: str = "cdi.k8s.io/"
    features: tuple[str, ...] = ()
    """Any of gdrcopy, gds, mofed."""
    imex_channels: tuple[int, ...] = ()
    single_replica: bool = False
    """Refuse requests of more than one replica."""
    policy: AllocationPolicy = AllocationPolicy.DISTRIBUTED


class PlannedDevice(msgspec.Struct, frozen=True):
    """A device that a resource consists of."""

    uuid: str
    gpu: str
    """UUID of the physical GPU, the device's own unless it is a MIG instance."""
    replicas: int
    index: str = ""
    """The GPU's index, or `index:place` of a MIG instance."""
    numa_node: int | None = None
    nodes: tuple[str, ...] = ()
    """Its device nodes, below the root of /dev."""


class ResourcePlan(msgspec.Struct, frozen=True):
    """A resource name and the devices that are advertised under it."""

    resource: str
    devices: tuple[PlannedDevice, ...]

    @property
    def replicas(self) -> int:
        """The number of devices that the kubelet sees: the replicas of all *devices*."""
        return sum(device.replicas for device in self.devices)


class WorkerSettings(msgspec.Struct, frozen=True):
    """What a worker is told at its start."""

    paths: Paths
    endpoint: str
    """Base name of the worker's socket in the plugin folder."""
    stale_after: float
    plan: ResourcePlan
    handout: Handout = Handout()
