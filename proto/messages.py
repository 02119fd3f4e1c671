"""What goes over the bus: state and usage from the monitor, each worker's state to the exporter.

A message is the sender's complete state, never an event; (epoch, sequence) counts its starts, and
its messages since then. Receivers keep the newest, so a lost one costs at most a second.
"""

import enum

import msgspec

from proto.calls import CallStats, HangingCall, LookTime
from proto.facts import GpuFacts, MigAttributes, NumaNodes
from proto.grey import GreyFailure
from proto.mps import MpsDaemon
from proto.platform import Platform
from proto.reasons import Reason
from proto.sxids import SXidCount
from proto.usage import DeviceUsage

VERSION = 1
"""Version of the messages below; a receiver drops messages of other versions."""


class Health(enum.StrEnum):
    """Whether the kubelet may allocate a device, in the words of the device plugin API."""

    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"


class LinkLevel(enum.StrEnum):
    """The closest common ancestor of two GPUs, in the words of `nvidia-smi topo`."""

    SAME = "SAME"
    PIX = "PIX"
    PXB = "PXB"
    PHB = "PHB"
    NODE = "NODE"
    SYS = "SYS"


class MigInstance(msgspec.Struct, frozen=True):
    """A MIG device: one compute instance (CI) in one GPU instance (GI) of a GPU."""

    uuid: str
    place: int
    """The instance's index among those of its GPU."""
    gi: int
    ci: int
    profile: str
    """For example `1g.10gb`; empty: the driver does not report it."""
    memory_mib: int | None = None
    capabilities: tuple[int, ...] = ()
    """The numbers of the device nodes /dev/nvidia-caps/nvidia-cap<number> for its GI and CI."""
    attributes: MigAttributes | None = None
    """None: the driver does not report them."""


class Gpu(msgspec.Struct, frozen=True):
    """A physical GPU as the driver describes it; None: the driver does not report it."""

    uuid: str
    index: int
    minor: int | None
    """The number in /dev/nvidia<minor>, which is not the index."""
    pci_bus_id: str
    """Empty: it has no address on the PCI bus."""
    name: str
    memory_mib: int | None
    """Of a GPU with unified memory, what the settings say."""
    numa_node: int | None
    """The NUMA node near the GPU that has CPUs."""
    compute_capability: str | None
    mig_enabled: bool = False
    instances: tuple[MigInstance, ...] = ()
    events: bool = True
    """False when the GPU is too old to report Xids."""
    nvlinks: int = 0
    """NVLinks that were up when the GPU was enumerated."""
    switches: tuple[str, ...] = ()
    """PCI addresses of the NVSwitches at its NVLinks, as far as the driver tells them."""
    ecc: bool | None = None
    """Whether the GPU counted memory errors when it was enumerated; False: ECC mode was off."""
    facts: GpuFacts = GpuFacts()
    unified_memory: bool = False
    """Whether it has no memory of its own: it uses that of the machine."""
    integrated: bool = False
    """Whether it is a part of a system on chip (Tegra)."""
    toolkit_id: str = ""
    """The only ID by which NVIDIA's container toolkit knows it; empty: it knows UUID and index."""


class FailedGpu(msgspec.Struct, frozen=True):
    """A GPU that the monitor could not enumerate, and the error."""

    index: int
    error: str
    code: int = 0
    """NVML's error code."""


class Link(msgspec.Struct, frozen=True, array_like=True):
    """The connection of two GPUs (by UUID): their PCI level and the active NVLinks between them."""

    first: str
    second: str
    level: LinkLevel
    nvlinks: int


IMEX_CHANNEL = "/dev/nvidia-caps-imex-channels/channel{}"
"""The device node of an IMEX channel, by its number."""


class Inventory(msgspec.Struct, frozen=True):
    """Everything that the monitor found on the node."""

    driver_version: str
    gpus: tuple[Gpu, ...]
    failed: tuple[FailedGpu, ...] = ()
    nodes: tuple[str, ...] = ()
    """Device nodes that exist beside those of the GPUs, such as /dev/nvidiactl."""
    cdi_kinds: tuple[str, ...] = ()
    """CDI kinds that have a specification file."""
    cdi_channels: tuple[str, ...] = ()
    """IMEX channels that have a CDI name."""
    links: tuple[Link, ...] = ()
    """Each pair of GPUs once; a missing pair is SYS without NVLink."""
    cuda_version: int | None = None
    """The newest CUDA version that the driver supports, as NVML writes it: 13000 is 13.0."""
    numa: NumaNodes = NumaNodes()
    passed: dict[str, str] = {}
    """GPUs that the kernel has given to virtual machines: the driver by PCI address."""
    platform: Platform | None = None
    """What kind of node this is; None: the driver has not answered yet."""
    excluded: tuple[str, ...] = ()
    """PCI addresses of GPUs that the driver was told not to use."""


class DeviceState(enum.StrEnum):
    """The health state of a device."""

    HEALTHY = "healthy"
    """Advertised as Healthy."""
    SUSPECT = "suspect"
    """One health check failed. Advertised as Healthy until the next check fails too."""
    UNHEALTHY = "unhealthy"
    """Has at least one reason. Advertised as Unhealthy."""
    RECOVERING = "recovering"
    """Its faults are proven gone; the quiet period has not ended yet. Advertised as Unhealthy."""
    LOST = "lost"
    """The driver cannot reach it. Advertised as Unhealthy."""


class DeviceHealth(msgspec.Struct, frozen=True):
    """The health of one GPU or MIG instance; an instance has the reasons of its GPU too."""

    uuid: str
    reasons: tuple[Reason, ...] = ()
    state: DeviceState = DeviceState.HEALTHY
    since: float = 0.0
    """When the device entered this state, as Unix time; 0: before the monitor started."""
    transitions: int = 0
    """State changes since the node booted."""
    recovery_action: int | None = None
    """The recovery action that the driver asks for (NVML field 230); 0: none; None: unknown."""
    licensed: bool | None = None
    """Whether a virtual GPU (vGPU) has its licence; None: unknown, or it needs none."""

    @property
    def health(self) -> Health:
        """UNHEALTHY while there is at least one reason."""
        return Health.UNHEALTHY if self.reasons else Health.HEALTHY


class XidCount(msgspec.Struct, frozen=True):
    """How often a GPU reported an Xid since the monitor started; empty UUID: the GPU is unknown."""

    uuid: str
    xid: int
    count: int
    last: float = 0.0
    """When the Xid was reported last, as Unix time."""
    sources: dict[str, int] = {}
    """How many `nvml`, the `kernel` log or `both` told; the others are not certain yet."""


class RpcStats(msgspec.Struct, frozen=True):
    """The calls of one device plugin API method since the worker started."""

    method: str
    buckets: tuple[int, ...]
    """Calls that took at most each of RPC_BUCKETS, cumulative; the last entry counts all calls."""
    seconds: float
    """Total duration of all calls."""
    errors: dict[str, int] = {}
    """Failed calls by the name of the gRPC status code."""


RPC_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
"""Upper bounds in seconds; the admission of a pod waits for two such calls."""


class SenderState(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """The fields of every message on the bus."""

    version: int = VERSION
    epoch: int
    sequence: int

    @property
    def age(self) -> tuple[int, int]:
        """Orders the messages of one sender, also across its restarts."""
        return self.epoch, self.sequence


class NodeState(SenderState, frozen=True, tag=True, kw_only=True):
    """The node as the health monitor sees it."""

    inventory: Inventory
    health: tuple[DeviceHealth, ...]
    whole_gpus: bool = True
    """Whether a GPU in MIG mode is advertised as a whole GPU (MIG strategy `none`)."""
    xids: tuple[XidCount, ...] = ()
    calls: tuple[CallStats, ...] = ()
    hanging: tuple[HangingCall, ...] = ()
    looks: tuple[LookTime, ...] = ()
    persisted: bool = True
    """Whether the health of devices is saved; if not, a restart forgets their faults."""
    kernel_log_lost: int | None = None
    """Records of the kernel log that were overwritten before they were read; None: none is read."""
    grey: tuple[GreyFailure, ...] = ()
    sxids: tuple[SXidCount, ...] = ()


class WorkerState(SenderState, frozen=True, tag=True, kw_only=True):
    """What one worker advertises, and whether it is registered with the kubelet."""

    resource: str
    registered: bool
    registrations: int
    """Registrations since the worker started."""
    streams: int
    """Open ListAndWatch streams."""
    healthy: int
    unhealthy: int
    replicas: dict[str, int] = {}
    """Number of advertised devices, by the UUID of the GPU or MIG instance that they share."""
    list_bytes: int = 0
    """Size of the newest device list in bytes; the kubelet accepts 4 MiB."""
    rpcs: tuple[RpcStats, ...] = ()
    answering: bool = True
    """Whether the worker answered the last self-check on its own socket."""


class UsageState(SenderState, frozen=True, tag=True, kw_only=True):
    """How much of the node's GPUs is in use, as the health monitor sampled it."""

    interval: float
    """Seconds between two samples of a GPU."""
    devices: tuple[DeviceUsage, ...] = ()
    """The newest sample of each GPU that can be sampled, and of its MIG instances."""


class MpsState(SenderState, frozen=True, tag=True, kw_only=True):
    """The MPS daemons of the node, or in a keeper's own message the one that it keeps."""

    daemons: tuple[MpsDaemon, ...] = ()


State = NodeState | WorkerState | UsageState | MpsState

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(State)


def encode(state: SenderState) -> bytes:
    """Return *state* as bytes for the bus."""
    return _encoder.encode(state)


def topic(kind: type[SenderState]) -> bytes:
    """Return how each message of this *kind* begins, to subscribe to no other."""
    keys = len(kind.__struct_fields__) + 1  # a map, and its first key is the tag
    header = bytes([0x80 | keys]) if keys < 16 else b"\xde" + keys.to_bytes(2, "big")  # noqa: PLR2004
    return header + _encoder.encode("type") + _encoder.encode(kind.__name__)


def decode(data: bytes) -> State | None:
    """Return the message in *data*; None if this version cannot read it."""
    try:
        state = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return state if state.version == VERSION else None
