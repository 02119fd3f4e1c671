"""What the supervisor and a child say to each other: orders down, reports up, and their parts."""

import enum

import msgspec

from proto.cdi import CdiSettings
from proto.cluster import Labelled
from proto.messages import Inventory, Reason, ReasonKind
from proto.recovery import Recovery
from proto.xids import XidPolicy

BEAT_EVERY = 1.0
"""Seconds between two signs of life of a child."""


def until_beat(now: float) -> float:
    """Return the seconds until all processes give a sign of life: the next whole second.

    All at once, by the clock that they share: so an idle node is woken once a second, not once for
    each process and purpose.
    """
    return BEAT_EVERY - now % BEAT_EVERY


class ExitCode(enum.IntEnum):
    """What a process of ours tells its parent by its exit status."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """The command line or the configuration is wrong: starting again would not help."""
    NOT_READY = 3
    """The environment (driver, device) is not there yet: start again, slowly."""
    AGAIN = 4
    """What was found at the start is no longer so: start again, at once."""


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


class ProblemKind(enum.StrEnum):
    """What is wrong with a node so that not all of it can be served as configured."""

    MIG_NOT_UNIFORM = "mig-not-uniform"
    """MIG strategy `single` wants the same instances on every GPU; nothing is advertised."""
    MIG_EMPTY = "mig-empty"
    """A GPU is in MIG mode but has no instance; the others are served."""
    LIST_TOO_LONG = "list-too-long"
    """A resource has more devices than the kubelet takes; it is not advertised."""
    NOT_SHARED = "not-shared"
    """What sharing is configured for is not there; all else is served."""
    IMEX_MISSING = "imex-missing"
    """The IMEX channel that is required is not there; nothing is advertised."""


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with the node, for the operator."""

    kind: ProblemKind
    text: str

    @property
    def fatal(self) -> bool:
        """Whether pods are missing a resource because of it."""
        return self.kind not in {ProblemKind.MIG_EMPTY, ProblemKind.NOT_SHARED}


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


class Paths(msgspec.Struct, frozen=True):
    """Where processes meet: the bus's sockets and the kubelet's."""

    health_bus: str
    trace: str
    """Where the monitor notes which call of the driver's is running."""
    telemetry_bus: str
    kubelet_socket: str
    """Empty: serve, but do not register."""
    plugin_folder: str


class MonitorSettings(msgspec.Struct, frozen=True):
    """What the health monitor is told at its start."""

    paths: Paths
    binding: str
    """Module of the NVML binding: pynvml, or the simulated one."""
    binding_argument: str
    """Where the binding finds its driver: its mounted root, or the simulated node's folder."""
    sysfs: str = "/sys"
    procfs: str = "/proc"
    dev_root: str = "/"
    """Below which we see device nodes."""
    poll_interval: float = 5.0
    """Seconds between two looks at each GPU."""
    rescan_interval: float = 30.0
    """Seconds between two looks for GPUs and MIG instances that came or went."""
    hang_after: float = 15.0
    """Seconds after which a wait for events that does not return counts as hanging."""
    recovery: Recovery = Recovery()
    state_folder: str = "/var/lib/gpu-sharing-plugin"
    cdi: CdiSettings | None = None
    """None: no CDI specification is wanted."""
    xids: XidPolicy = XidPolicy()


class WorkerSettings(msgspec.Struct, frozen=True):
    """What a worker is told at its start."""

    paths: Paths
    endpoint: str
    """Base name of the worker's socket in the plugin folder."""
    stale_after: float
    plan: ResourcePlan
    handout: Handout = Handout()


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Order: end; *withdraw* if the resource is gone for good, so its list goes empty first."""

    withdraw: bool = False


class Register(msgspec.Struct, frozen=True, tag=True):
    """Order: the kubelet's socket is a new one, register there."""


class Unknown(msgspec.Struct, frozen=True, tag=True):
    """Order: until another monitor speaks, nothing is known of any device, for this *reason*."""

    reason: Reason


class MarkHealthy(msgspec.Struct, frozen=True, tag=True):
    """Order: the operator says that the faults of a *device* are gone."""

    device: str
    """UUID, index, or `index:place` of a MIG instance."""


class Configure(msgspec.Struct, frozen=True, tag=True):
    """Order: advertise this from now on, and hand it out like that."""

    plan: ResourcePlan
    handout: Handout = Handout()
    stale_after: float = 10.0


class ProcessState(msgspec.Struct, frozen=True):
    """One child as the supervisor sees it."""

    name: str
    state: str
    restarts: int
    pid: int = 0
    """0: there is no process."""


class ConfigurationState(msgspec.Struct, frozen=True):
    """The configuration in effect, and how the newest attempt to replace it went."""

    hash: str = ""
    """Of the settings in effect."""
    loaded: float = 0.0
    """When they were taken, as unix time."""
    problem: str = ""
    """Why the newest ones were refused; empty: they are in effect."""


class ServiceState(msgspec.Struct, frozen=True, tag=True):
    """Order to the exporter: show this; coming every second, it tells that the supervisor loops."""

    processes: tuple[ProcessState, ...]
    planned: tuple[str, ...] | None
    """Resource names; None before the node's first inventory."""
    problem: str = ""
    """Why there is no inventory."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with the inventory."""
    quiesced: bool = False
    """The monitor was ended for maintenance and waits for `resume`."""
    unknown: Reason | None = None
    """Why nothing is known of any device, until a monitor speaks."""
    hangs: int = 0
    """How often the monitor hung in the driver."""
    configuration: ConfigurationState = ConfigurationState()


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Report: the child does its work from now on."""


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Report: the child's own loop turns."""


class Inventoried(msgspec.Struct, frozen=True, tag=True):
    """Report: the monitor has found this on the node (without links, which fill a message)."""

    inventory: Inventory


class NotReady(msgspec.Struct, frozen=True, tag=True):
    """Report: the child cannot do its work, and why; it exits with NOT_READY after it."""

    reason: str
    kind: ReasonKind = ReasonKind.NO_DRIVER
    """What that is called as a reason of devices'."""


class Marked(msgspec.Struct, frozen=True, tag=True):
    """Report: MarkHealthy was done, or why not."""

    error: str = ""


class Settled(msgspec.Struct, frozen=True, tag=True):
    """Report: a worker is registered with the kubelet, or waits for it."""

    registered: bool


Order = Stop | Register | Unknown | MarkHealthy | Configure | ServiceState
Report = Ready | Beat | Inventoried | NotReady | Marked | Settled | Labelled
