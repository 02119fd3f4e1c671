"""What goes over the bus: the node's state from the monitor, each worker's state to the exporter.

A message is the sender's complete state, never an event, with (epoch, sequence) to order it:
the epoch counts the sender's starts, the sequence its messages since.
A receiver keeps the newest: a lost message or a late joiner costs a second, never a wrong state.
"""

import enum

import msgspec

VERSION = 1
"""Version of the messages below; a receiver drops what bears another."""


class Health(enum.StrEnum):
    """Whether the kubelet may hand a device out, in the kubelet's own words."""

    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"


class ReasonKind(enum.StrEnum):
    """Why a device is unhealthy; operators' alerts name these."""

    XID = "xid"
    """The driver reported an Xid that is fatal for the device; the detail is its code."""

    GPU_LOST = "gpu-lost"
    """The driver no longer reaches the GPU."""

    UNWATCHED = "unwatched"
    """The GPU's events cannot be waited for, so a fault would go unseen."""

    UNREADABLE = "unreadable"
    """Looks at the device fail, for a reason of the driver's; the detail is its error."""

    RECOVERY_ACTION = "recovery-action"
    """The driver asks for a recovery, which the detail names."""

    ECC = "ecc"
    """Uncorrected memory errors, where the driver does not say what they call for."""

    ROW_REMAP = "row-remap"
    """A memory row could not be replaced, or waits for a reset to be."""

    NVLINK_DOWN = "nvlink-down"
    """Fewer NVLinks are up than at the start."""

    THERMAL = "thermal"
    """The GPU is as hot as makes it shut down."""

    DRIVER_HANG = "driver-hang"
    """The driver does not return from a call, which the detail names."""

    NO_ACCESS = "no-access"
    """This service may not open the GPUs' device nodes any more; the GPUs may be well."""

    NO_DRIVER = "no-driver"
    """The driver cannot be used any more; the detail says why."""

    MAINTENANCE = "maintenance"
    """Held out of service by `quiesce`, until `resume`."""

    MONITOR_SILENT = "monitor-silent"
    """No word of the health monitor for `health.staleAfter`."""

    NOT_FOUND = "not-found"
    """The monitor does not see a device that is planned."""


class Reason(msgspec.Struct, frozen=True, order=True):
    """One reason why a device is unhealthy."""

    kind: ReasonKind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".rstrip()


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
    """For example `1g.10gb`, empty when the driver does not tell."""
    memory_mib: int | None = None
    capabilities: tuple[int, ...] = ()
    """The numbers in /dev/nvidia-caps/nvidia-cap<number> that give access to its GI and CI."""


class Gpu(msgspec.Struct, frozen=True):
    """A physical GPU as the driver describes it; None where it does not."""

    uuid: str
    index: int
    minor: int | None
    """The number in /dev/nvidia<minor>, which is not the index."""
    pci_bus_id: str
    name: str
    memory_mib: int | None
    numa_node: int | None
    compute_capability: str | None
    mig_enabled: bool = False
    instances: tuple[MigInstance, ...] = ()
    events: bool = True
    """False when the GPU is too old to report Xids."""
    nvlinks: int = 0
    """NVLinks that were up when it was enumerated."""


class FailedGpu(msgspec.Struct, frozen=True):
    """A GPU that could not be enumerated, and why."""

    index: int
    error: str
    code: int = 0
    """NVML's."""


class Link(msgspec.Struct, frozen=True, array_like=True):
    """How two GPUs (by UUID) are connected: the PCI level, and active NVLinks between them."""

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
    """Device nodes beside the GPUs' own that exist, such as /dev/nvidiactl."""
    cdi_kinds: tuple[str, ...] = ()
    """Kinds of which there is a CDI specification."""
    links: tuple[Link, ...] = ()
    """Each pair once; a pair that is not named is SYS without NVLink."""


class DeviceState(enum.StrEnum):
    """Where a device is between well and gone."""

    HEALTHY = "healthy"
    """Handed out."""
    SUSPECT = "suspect"
    """A look at it failed, once and for no known reason; handed out until that happens again."""
    UNHEALTHY = "unhealthy"
    """Not handed out, for its reasons."""
    RECOVERING = "recovering"
    """There is proof that its faults are gone; it has yet to stay quiet. Not handed out."""
    LOST = "lost"
    """The driver does not reach it. Not handed out."""


class DeviceHealth(msgspec.Struct, frozen=True):
    """The health of one GPU or MIG instance; an instance bears its GPU's reasons too."""

    uuid: str
    reasons: tuple[Reason, ...] = ()
    state: DeviceState = DeviceState.HEALTHY
    since: float = 0.0
    """When it came into this state, as unix time; 0: before the monitor's start."""
    transitions: int = 0
    """How often its state has changed since the node's boot."""
    recovery_action: int | None = None
    """What the driver asks for (NVML field 230), 0 for nothing; None: untold."""

    @property
    def health(self) -> Health:
        """Unhealthy while there is any reason."""
        return Health.UNHEALTHY if self.reasons else Health.HEALTHY


class XidCount(msgspec.Struct, frozen=True):
    """How often an Xid was seen on a GPU since the monitor's start; no UUID: on an unknown one."""

    uuid: str
    xid: int
    count: int
    last: float = 0.0
    """When it was seen last, as unix time."""


class CallStats(msgspec.Struct, frozen=True):
    """The calls of one function of the driver's library since the monitor's start."""

    call: str
    count: int
    seconds: float
    """In all."""
    errors: dict[int, int] = {}
    """Failed calls by NVML's code; answers that a GPU has no such thing are none."""


class RpcStats(msgspec.Struct, frozen=True):
    """The calls of one method of the device plugin API since the worker's start."""

    method: str
    buckets: tuple[int, ...]
    """Calls that took no longer than each of RPC_BUCKETS, cumulative; the last: all."""
    seconds: float
    """In all."""
    errors: dict[str, int] = {}
    """Failed calls by gRPC's name of the code."""


RPC_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
"""Seconds; an admission waits for two such calls."""


class SenderState(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """What every message on the bus bears."""

    version: int = VERSION
    epoch: int
    sequence: int

    @property
    def age(self) -> tuple[int, int]:
        """Orders the messages of one sender over its restarts."""
        return self.epoch, self.sequence


class NodeState(SenderState, frozen=True, tag=True, kw_only=True):
    """The node as the health monitor sees it."""

    inventory: Inventory
    health: tuple[DeviceHealth, ...]
    whole_gpus: bool = True
    """Whether a GPU in MIG mode is handed out as a whole, with its instances (strategy `none`)."""
    xids: tuple[XidCount, ...] = ()
    calls: tuple[CallStats, ...] = ()
    persisted: bool = True
    """Whether the state folder took what is known; if not, a restart would forget it."""


class WorkerState(SenderState, frozen=True, tag=True, kw_only=True):
    """What one worker advertises and how it stands with the kubelet."""

    resource: str
    registered: bool
    registrations: int
    """Since the worker's start."""
    streams: int
    """Open ListAndWatch streams."""
    healthy: int
    unhealthy: int
    replicas: dict[str, int] = {}
    """Advertised devices by the UUID of the GPU or MIG instance that they share."""
    list_bytes: int = 0
    """Size of the newest device list, of which the kubelet takes 4 MiB."""
    rpcs: tuple[RpcStats, ...] = ()
    answering: bool = True
    """Whether it answered the last call on its own socket."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(NodeState | WorkerState)


def encode(state: SenderState) -> bytes:
    """Return *state* as it goes over the bus."""
    return _encoder.encode(state)


def decode(data: bytes) -> NodeState | WorkerState | None:
    """Return the message in *data*; None for one that this version cannot read."""
    try:
        state = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return state if state.version == VERSION else None
