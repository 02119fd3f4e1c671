"""The settings of a worker: which devices to advertise, and how to pass them to containers."""

import enum

import msgspec

from proto.mps import MpsShare
from proto.paths import Paths


class AllocationPolicy(enum.StrEnum):
    """How to choose replicas and MIG instances among the physical GPUs."""

    DISTRIBUTED = "distributed"
    """Different GPUs first, then the GPUs with the most free devices."""
    PACKED = "packed"
    """Fill one GPU after the other, the fullest first."""
    SPREAD = "spread"
    """Different GPUs only: a request for more devices than there are GPUs is refused. Replicas of \
MPS: as `distributed`."""


class DeviceListStrategy(enum.StrEnum):
    """How devices are passed to a container; several strategies can be combined."""

    ENVVAR = "envvar"
    """In NVIDIA_VISIBLE_DEVICES, for NVIDIA's container runtime."""
    VOLUME_MOUNTS = "volume-mounts"
    """As mounts for the same runtime; unlike the variable, an image cannot set them."""
    CDI_ANNOTATIONS = "cdi-annotations"
    """As CDI device names in an annotation."""
    CDI_CRI = "cdi-cri"
    """As CDI device names in the CRI field for them."""


CDI_STRATEGIES = frozenset({DeviceListStrategy.CDI_ANNOTATIONS, DeviceListStrategy.CDI_CRI})
"""The strategies that name devices by CDI."""


class DeviceIdStrategy(enum.StrEnum):
    """Which IDs of devices are passed to a container."""

    UUID = "uuid"
    INDEX = "index"
    """The GPU's index, or `index:place` of a MIG instance."""


class Handout(msgspec.Struct, frozen=True):
    """How devices are passed to containers; the same for all resources."""

    list_strategies: tuple[DeviceListStrategy, ...] = (DeviceListStrategy.ENVVAR,)
    id_strategy: DeviceIdStrategy = DeviceIdStrategy.UUID
    pass_device_specs: bool = False
    dev_root: str = "/"
    """Folder on the host that contains dev/ with the device nodes."""
    cdi_kind: str = "k8s.device-plugin.nvidia.com/gpu"
    cdi_annotation_prefix: str = "cdi.k8s.io/"
    features: tuple[str, ...] = ()
    """Any of gdrcopy, gds, mofed."""
    imex_channels: tuple[int, ...] = ()
    single_replica: bool = False
    """Whether to refuse a container more than one replica."""
    policy: AllocationPolicy = AllocationPolicy.DISTRIBUTED
    mps_root: str = ""
    """Folder on the host that contains the folders of the MPS daemons, and their shm."""


class PlannedDevice(msgspec.Struct, frozen=True):
    """A device of a resource, before it is split into replicas."""

    uuid: str
    gpu: str
    """UUID of the physical GPU; of a whole GPU, the same as *uuid*."""
    replicas: int
    index: str = ""
    """The GPU's index, or `index:place` of a MIG instance."""
    numa_node: int | None = None
    nodes: tuple[str, ...] = ()
    """Paths of its device nodes, below *dev_root*."""
    mps: MpsShare | None = None
    """None: it is not shared by MPS."""
    toolkit_id: str = ""
    """The only ID by which the container toolkit knows it; empty: it knows UUID and index."""


class ResourcePlan(msgspec.Struct, frozen=True):
    """A resource name and the devices to advertise under it."""

    resource: str
    devices: tuple[PlannedDevice, ...]

    @property
    def replicas(self) -> int:
        """The number of devices that the kubelet sees: the replicas of all *devices*."""
        return sum(device.replicas for device in self.devices)

    @property
    def mps(self) -> dict[str, MpsShare]:
        """The devices that are shared by MPS, by UUID."""
        return {device.uuid: device.mps for device in self.devices if device.mps}


class WorkerSettings(msgspec.Struct, frozen=True):
    """The settings of a worker at its start."""

    paths: Paths
    endpoint: str
    """File name of the worker's socket in the device plugin folder."""
    stale_after: float
    plan: ResourcePlan
    handout: Handout = Handout()
