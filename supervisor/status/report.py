"""The JSON of /status, on which users' scripts depend.

Fields may be added, but never renamed or removed. An unknown value is null, never 0 or empty.
"""

import enum

from msgspec import Struct

from health.remedies import Remedy
from proto.messages import DeviceState
from proto.reasons import ReasonKind
from supervisor.status.dra_report import DraHolder
from supervisor.status.mps_report import MpsStatus
from supervisor.status.node_report import NodeStatus
from supervisor.status.service_report import ConfigurationStatus, ProcessStatus, XidSeen
from supervisor.status.usage_report import DeviceUse, NodeUse


class Monitoring(enum.StrEnum):
    """How faults of a GPU are detected."""

    EVENTS = "events"
    POLLING = "polling"


class ReasonStatus(Struct, frozen=True):
    """A reason why a device is Unhealthy."""

    kind: ReasonKind
    """As in `gpu_sharing_device_unhealthy_reason`."""
    detail: str
    """The Xid's number, the driver's error or similar; may be empty."""
    text: str
    """The reason in words."""
    advice: str
    """What to do about this reason alone; the device's own `advice` is what to do first."""


class ShareStatus(Struct, frozen=True):
    """The devices of one resource on a GPU and its MIG instances."""

    resource: str
    """The resource's name."""
    advertised: int
    """Devices advertised to the kubelet; each replica counts."""
    used: int | None
    """Advertised devices that a container holds; null while the kubelet does not answer."""
    unhealthy: int
    """Advertised devices that are listed as Unhealthy."""


class Holder(Struct, frozen=True, order=True):
    """A container and a device that it holds."""

    namespace: str
    """The pod's namespace."""
    pod: str
    """The pod's name."""
    container: str
    """The container's name."""
    resource: str
    """The resource's name."""
    uuid: str
    """The UUID of the GPU or MIG instance."""
    device: str
    """The device ID at the kubelet: `<uuid>`, or `<uuid>::<n>` for a replica."""


class DeviceStatus(Struct, frozen=True, kw_only=True):
    """The fields that GPUs and MIG instances share."""

    uuid: str
    """The driver's UUID."""
    state: DeviceState | None
    """Its health state; null while the health monitor is silent or stopped."""
    healthy: bool
    """Whether it can be allocated."""
    reasons: tuple[ReasonStatus, ...]
    """Why it is Unhealthy, the gravest reason first; empty while it is healthy."""
    since: float | None
    """When it entered its state, as unix time; null: before the health monitor started."""
    transitions: int | None
    """How often its state changed since the node booted."""
    usage: DeviceUse | None = None
    """How much of it is in use; null: unknown, or sampling is switched off."""
    mps: MpsStatus | None = None
    """How MPS shares it; null: it does not."""
    remedy: Remedy | None = None
    """What it needs: the strongest of what its reasons need; null while it is healthy."""
    advice: str | None = None
    """What to do: the remedy in words, which covers the weaker ones; null while it is healthy."""


class InstanceStatus(DeviceStatus, frozen=True, kw_only=True):
    """A MIG instance."""

    place: int
    """Its index among the instances of its GPU."""
    gpu_instance: int
    """The driver's GPU instance ID (GI)."""
    compute_instance: int
    """The driver's compute instance ID (CI)."""
    profile: str | None
    """The MIG profile, for example `1g.10gb`."""
    memory_mib: int | None
    """Its memory in MiB."""


class GpuStatus(DeviceStatus, frozen=True, kw_only=True):
    """A physical GPU."""

    index: int
    """The driver's index of the GPU."""
    model: str
    """The model name from the driver."""
    pci_bus_id: str
    """Its PCI address."""
    numa_node: int | None
    """The NUMA node of the GPU."""
    memory_mib: int | None
    """Its memory in MiB."""
    unified_memory: bool = False
    """Whether it uses the memory of the machine, of which `memory_mib` is what counts."""
    recovery_action: int | None
    """The recovery action that the driver asks for (NVML field 230): 0 none, else NVML's number."""
    licensed: bool | None = None
    """Whether a virtual GPU (vGPU) has its licence; null: unknown, or it needs none."""
    check_seconds: float | None
    """How long its newest health check took; null: it was not checked yet."""
    monitoring: Monitoring
    """How its faults are detected; `polling`: the GPU is too old to report Xids."""
    mig: bool
    """Whether MIG mode is on."""
    instances: tuple[InstanceStatus, ...]
    """Its MIG instances."""
    resources: tuple[ShareStatus, ...] | None
    """Resources with devices on this GPU or its MIG instances, as reported by their workers."""
    holders: tuple[Holder, ...] | None
    """Containers that hold its devices, an entry per device; null: the kubelet does not answer."""
    dra_holders: tuple[DraHolder, ...] | None = None
    """Containers that hold its devices through DRA; null: the kubelet does not answer."""
    grey: tuple[ReasonStatus, ...] = ()
    """Grey failures that do not make it Unhealthy: it works, but worse than it should."""


class SharingKind(enum.StrEnum):
    """How the devices of a resource are shared."""

    NONE = "none"
    TIME_SLICING = "time-slicing"
    MPS = "mps"


class ResourceStatus(Struct, frozen=True, kw_only=True):
    """A resource of the node; values from its worker are null while the worker is silent."""

    name: str
    """The name that pods request."""
    devices: int | None = None
    """Devices advertised to the kubelet; each replica counts."""
    healthy: int | None = None
    """Devices listed as Healthy."""
    unhealthy: int | None = None
    """Devices listed as Unhealthy."""
    allocated: int | None = None
    """Devices that a container holds; null while the kubelet does not answer."""
    registered: bool | None = None
    """Whether it is registered with the kubelet."""
    registrations: int | None = None
    """Registrations with the kubelet since its worker started."""
    streams: int | None = None
    """Open ListAndWatch streams; 0 while registered: the kubelet does not read the list."""
    answering: bool | None = None
    """Whether its worker answered the last call on its own socket."""
    sharing: SharingKind | None = None
    """How its devices are shared."""


class Status(Struct, frozen=True):
    """The whole status at one moment."""

    time: float
    """When this status was made, as unix time."""
    version: str
    """The version of gpu-sharing-plugin."""
    ok: bool
    """Whether the service is live and ready and every GPU and MIG instance is healthy."""
    node: NodeStatus
    """The node as a whole."""
    gpus: tuple[GpuStatus, ...] | None
    """The GPUs; null until the health monitor has listed them."""
    strays: tuple[Holder, ...] | None
    """Containers that hold devices of GPUs that are not in `gpus`."""
    resources: tuple[ResourceStatus, ...] | None
    """The resources of the node; null until the health monitor has listed the GPUs."""
    processes: tuple[ProcessStatus, ...] | None
    """The child processes of the supervisor."""
    configuration: ConfigurationStatus | None
    """The configuration in use."""
    xids: tuple[XidSeen, ...] | None
    """The Xids reported since the health monitor started."""
    usage: NodeUse | None = None
    """The sampling of usage; null: it is switched off, or the health monitor is silent."""
