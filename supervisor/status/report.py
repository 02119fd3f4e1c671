"""The status as others read it: the JSON of /status, on which people's scripts depend.

Fields are added, never renamed or removed. What is not known is null, never 0 or empty.
"""

import enum

from msgspec import Struct

from proto.control import ProblemKind
from proto.messages import DeviceState, ReasonKind


class Monitoring(enum.StrEnum):
    """How faults of a GPU are noticed."""

    EVENTS = "events"
    POLLING = "polling"


class Verdict(Struct, frozen=True):
    """What a probe answers."""

    ok: bool
    """Whether the probe succeeds."""
    problems: tuple[str, ...]
    """Why it does not."""


class ProblemStatus(Struct, frozen=True):
    """Something that keeps the node from being served as configured."""

    kind: ProblemKind
    """As in `gpu_sharing_node_problem`."""
    text: str
    """What is wrong and what to do."""
    fatal: bool
    """Whether pods miss a resource because of it."""


class FailedGpuStatus(Struct, frozen=True):
    """A GPU that could not be enumerated."""

    index: int
    """The driver's index of the GPU."""
    error: str
    """What the driver answered."""


class NodeStatus(Struct, frozen=True):
    """The node as a whole."""

    driver_version: str | None
    """Version of NVIDIA's driver."""
    backend: str | None
    """What answers for the driver: `nvml` or `simulated`."""
    maintenance: bool | None
    """Whether the GPUs are held out of service by `quiesce`."""
    live: Verdict
    """What `/livez` answers."""
    ready: Verdict
    """What `/readyz` answers."""
    problems: tuple[ProblemStatus, ...] | None
    """What keeps the node from being served as configured."""
    failed: tuple[FailedGpuStatus, ...] | None
    """GPUs that could not be enumerated."""
    persisted: bool | None
    """Whether the state folder takes what is known; if not, a restart would forget it."""
    driver_hangs: int | None
    """How often the monitor hung in the driver since the service's start."""


class ReasonStatus(Struct, frozen=True):
    """Why a device is not handed out."""

    kind: ReasonKind
    """As in `gpu_sharing_device_unhealthy_reason`."""
    detail: str
    """The Xid's number, the driver's error or the like; may be empty."""
    text: str
    """The same in words."""
    advice: str
    """What to do."""


class ShareStatus(Struct, frozen=True):
    """What one resource has of a GPU, its MIG instances included."""

    resource: str
    """The resource's name."""
    advertised: int
    """Devices or replicas that the kubelet is told of."""
    used: int | None
    """Those that a container holds."""
    unhealthy: int
    """Those that are listed as Unhealthy."""


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
    """The id that the kubelet knows: `<uuid>`, or `<uuid>::<n>` of a replica."""


class DeviceStatus(Struct, frozen=True, kw_only=True):
    """What GPUs and MIG instances have in common."""

    uuid: str
    """As the driver gives it."""
    state: DeviceState | None
    """Where it is between well and gone; null while the monitor is silent or ended."""
    healthy: bool
    """Whether it may be handed out."""
    reasons: tuple[ReasonStatus, ...]
    """Why it is not; empty while it is healthy."""
    since: float | None
    """When it came into its state, as unix time; null: before the monitor's start."""
    transitions: int | None
    """How often its state has changed since the node's boot."""


class InstanceStatus(DeviceStatus, frozen=True, kw_only=True):
    """A MIG instance."""

    place: int
    """Its index among the instances of its GPU."""
    gpu_instance: int
    """The driver's number of its GI."""
    compute_instance: int
    """The driver's number of its CI."""
    profile: str | None
    """For example `1g.10gb`."""
    memory_mib: int | None
    """Its memory."""


class GpuStatus(DeviceStatus, frozen=True, kw_only=True):
    """A physical GPU."""

    index: int
    """The driver's index."""
    model: str
    """The driver's name of the model."""
    pci_bus_id: str
    """Where it is on the PCI bus."""
    numa_node: int | None
    """The NUMA node that it belongs to."""
    memory_mib: int | None
    """Its memory."""
    recovery_action: int | None
    """What the driver asks for (NVML field 230): 0 nothing, else NVML's number."""
    monitoring: Monitoring
    """How its faults are noticed; `polling`: it is too old to report Xids."""
    mig: bool
    """Whether MIG mode is on."""
    instances: tuple[InstanceStatus, ...]
    """Its MIG instances."""
    resources: tuple[ShareStatus, ...] | None
    """What of it and its MIG instances is advertised, by each resource whose worker has told."""
    holders: tuple[Holder, ...] | None
    """Who holds it or a part of it, one entry a device; null while the kubelet does not tell."""


class ResourceStatus(Struct, frozen=True, kw_only=True):
    """A resource that the node offers; what its worker tells is null while it is silent."""

    name: str
    """As pods ask for it."""
    devices: int | None = None
    """Devices advertised to the kubelet, replicas counted."""
    healthy: int | None = None
    """Those listed as Healthy."""
    unhealthy: int | None = None
    """Those listed as Unhealthy."""
    allocated: int | None = None
    """Those that a container holds; null while the kubelet does not tell."""
    registered: bool | None = None
    """Whether it is registered with the kubelet."""
    registrations: int | None = None
    """Registrations since its worker's start."""
    streams: int | None = None
    """Open ListAndWatch streams; 0 while registered: the kubelet does not listen."""
    answering: bool | None = None
    """Whether its worker answered the last call on its own socket."""


class ProcessStatus(Struct, frozen=True):
    """A process of the service, beside the supervisor."""

    name: str
    """`monitor`, `exporter`, or `worker` and the resource's name."""
    state: str
    """As in ARCHITECTURE.md; `running` when all is well."""
    restarts: int
    """Starts after its first."""
    pid: int | None
    """Null while there is no process."""


class ConfigurationStatus(Struct, frozen=True):
    """The configuration in effect."""

    hash: str | None
    """Of the settings in effect."""
    loaded: float | None
    """When they were taken, as unix time."""
    problem: str | None
    """Why the newest ones were refused; null: they are in effect."""


class XidSeen(Struct, frozen=True):
    """An Xid that was seen since the monitor's start, harmless or not."""

    uuid: str | None
    """The UUID of the GPU; null: the driver did not say which."""
    xid: int
    """Its number."""
    name: str
    """What NVIDIA's catalogue calls it."""
    count: int
    """How often it was seen."""
    last: float | None
    """When it was seen last, as unix time."""


class Status(Struct, frozen=True):
    """Everything, at one moment."""

    time: float
    """When this was written, as unix time."""
    version: str
    """The version of gpu-sharing-plugin."""
    ok: bool
    """Whether the service is live and ready and every GPU and MIG instance is healthy."""
    node: NodeStatus
    """The node as a whole."""
    gpus: tuple[GpuStatus, ...] | None
    """The GPUs; null before the monitor has looked."""
    strays: tuple[Holder, ...] | None
    """Who holds devices that are on none of these GPUs."""
    resources: tuple[ResourceStatus, ...] | None
    """The resources that the node offers; null before the monitor has looked."""
    processes: tuple[ProcessStatus, ...] | None
    """The processes of the service, beside the supervisor."""
    configuration: ConfigurationStatus | None
    """The configuration in effect."""
    xids: tuple[XidSeen, ...] | None
    """The Xids seen since the monitor's start."""
