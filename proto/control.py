"""The messages between the supervisor and a child process: orders down, reports up."""

import enum

import msgspec

from proto.advertising import Advertising
from proto.cluster import DraOffers, Labelled, Unlabelled
from proto.driver import DriverState
from proto.holdings import Holdings
from proto.keeper import ComputeMode
from proto.messages import Inventory
from proto.mps import MpsShare
from proto.platform import Platform
from proto.probe import Probed
from proto.problem import Problem
from proto.reasons import Reason, ReasonKind
from proto.worker import Handout, ResourcePlan

BEAT_EVERY = 1.0
"""Seconds between two heartbeats of a child process."""


def until_beat(now: float) -> float:
    """Return the seconds until the next heartbeat, which is at the next whole second.

    All processes use the same clock and send at the same moment, so an idle node wakes up once a
    second instead of once per process.
    """
    return BEAT_EVERY - now % BEAT_EVERY


class ExitCode(enum.IntEnum):
    """The exit codes of our processes."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """The command line or the configuration is wrong: a restart does not help."""
    NOT_READY = 3
    """The driver or a device is not available yet: restart with backoff."""
    AGAIN = 4
    """Something changed that needs a new process: restart at once; this is not a failure."""
    NO_GPU = 5
    """There is nothing to serve: the service goes on as one that only waits for a GPU."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Order: stop; with *withdraw* the resource is removed: send an empty list first."""

    withdraw: bool = False


class Register(msgspec.Struct, frozen=True, tag=True):
    """Order: register again, because the kubelet's socket is new."""


class Unknown(msgspec.Struct, frozen=True, tag=True):
    """Order: list all devices as Unhealthy for this *reason*, until a new monitor publishes."""

    reason: Reason
    epoch: int
    """Of the newest monitor that started until then: the states of a later one count."""


class MarkHealthy(msgspec.Struct, frozen=True, tag=True):
    """Order: clear the faults of a *device*, because the operator says so."""

    device: str
    """UUID, index, or `index:place` of a MIG instance."""


class Withhold(msgspec.Struct, frozen=True, tag=True):
    """Report of the exporter, and order to the monitor: do not hand these devices out, only these.

    Each has a text for people, by UUID. Sent again every few seconds: the monitor soon forgets it.
    """

    occupied: dict[str, str] = {}
    """Devices that no container holds, and what uses them."""
    dra: dict[str, str] = {}
    """Devices that are held through DRA, and who holds them."""


class Configure(msgspec.Struct, frozen=True, tag=True):
    """Order: use this plan and these allocation settings from now on."""

    plan: ResourcePlan
    handout: Handout = Handout()
    stale_after: float = 10.0


class LabelNode(msgspec.Struct, frozen=True, tag=True):
    """Order: label the node for this *inventory*, whose devices are advertised like this."""

    inventory: Inventory
    advertising: Advertising
    loaded: float = 0.0
    """When the settings in effect were loaded, as unix time."""


class NodeLabels(msgspec.Struct, frozen=True, tag=True):
    """Report: the node's labels were written to this *output*, or cannot be for this *reason*."""

    output: str
    """`file`, `nodefeature` or `node`."""
    reason: str = ""
    """Empty: they are written."""


class Limit(msgspec.Struct, frozen=True, tag=True):
    """Order to the keeper of an MPS daemon: the daemon shall have the limits of this *share*.

    The keeper replaces the daemon as soon as it has no clients. It looks at the daemon every
    *poll_interval* seconds from now on, and waits *hang_after* for it; 0: as before. It ends for a
    successor that changes the compute mode, if that is another one; the daemon stays.
    """

    share: MpsShare
    poll_interval: float = 0.0
    hang_after: float = 0.0
    compute_mode: ComputeMode | None = None
    """None: as before."""


class ApplyNow(msgspec.Struct, frozen=True, tag=True):
    """Order to the keeper of an MPS daemon: what waits for the end of clients is done at once."""


class ProcessState(msgspec.Struct, frozen=True):
    """The state of one child process."""

    name: str
    state: str
    restarts: int
    pid: int = 0
    """0: no process is running."""


class ConfigurationState(msgspec.Struct, frozen=True):
    """The configuration in effect, and why the newest one is not in effect."""

    hash: str = ""
    """Hash of the settings in effect."""
    loaded: float = 0.0
    """When these settings were loaded, as unix time."""
    problem: str = ""
    """Why the newest settings were refused; empty: they are in effect."""


class ServiceState(msgspec.Struct, frozen=True, tag=True):
    """Order: this is the state of the service; sent every second as the supervisor's heartbeat."""

    processes: tuple[ProcessState, ...]
    planned: tuple[str, ...] | None
    """Resource names; None before the node's first inventory."""
    problem: str = ""
    """Why a child process is not ready; empty: all are."""
    problems: tuple[Problem, ...] = ()
    """Why the node cannot be served as configured."""
    notices: tuple[str, ...] = ()
    """What in the configuration has no effect on this node, without being a problem."""
    quiesced: bool = False
    """Whether the monitor is stopped for maintenance, until `resume`."""
    unknown: Unknown | None = None
    """Why all devices are Unhealthy, until a new monitor publishes."""
    exits: str = ""
    """Why the service exits soon: only a new container can use the GPUs; empty: it does not."""
    hangs: int = 0
    """How many driver calls did not return in time."""
    platform: Platform | None = None
    """What kind of node this is; None: nobody has looked yet."""
    mps: dict[str, MpsShare] = {}
    """The devices that are shared by MPS, by UUID."""
    configuration: ConfigurationState = ConfigurationState()
    labels: NodeLabels | None = None
    """Whether the node's labels are written; None: not known yet, or they are switched off."""
    driver: DriverState | None = DriverState.STARTING
    """The state of the driver; None: another service tells it."""
    dra: DraOffers = DraOffers()
    """What DRA offers of this node; empty also if nobody looks."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Report: the child process is ready and does its work."""


class Beat(msgspec.Struct, frozen=True, tag=True):
    """Report: heartbeat of the child's loop."""


class Inventoried(msgspec.Struct, frozen=True, tag=True):
    """Report: the GPUs that the monitor found (without links, which are too large to send)."""

    inventory: Inventory


class Left(msgspec.Struct, frozen=True, tag=True):
    """Report: the devices that have an MPS daemon, or its compute mode, from an earlier run."""

    uuids: tuple[str, ...]


class NotReady(msgspec.Struct, frozen=True, tag=True):
    """Report: the child cannot work for this *reason*; it then exits with NOT_READY."""

    reason: str
    kind: ReasonKind = ReasonKind.NO_DRIVER
    """Why devices are Unhealthy meanwhile, if the child is the monitor."""
    needs_restart: bool = False
    """Whether no new process in this container can succeed, but one in a new container may."""
    came_late: bool = False
    """Whether the driver, or its device nodes, came to the node after this container."""
    detail: str = ""
    """The detail of the devices' reason, if it is not *reason*."""
    platform: Platform | None = None
    """What kind of node this is, if the child is the monitor and knows it."""
    driver: DriverState = DriverState.UNUSABLE
    """The state of the driver, if the child is the monitor."""


class Hung(msgspec.Struct, frozen=True, tag=True):
    """Report: the driver *call* has not returned for `health.hangAfter`."""

    call: str
    everything: bool = False
    """Whether no GPU can be used meanwhile, because the driver is not initialised."""


class Marked(msgspec.Struct, frozen=True, tag=True):
    """Report: MarkHealthy is done, or failed with this *error*."""

    error: str = ""


class Settled(msgspec.Struct, frozen=True, tag=True):
    """Report: the worker is *registered* with the kubelet, or else waits for the kubelet."""

    registered: bool


Order = (
    Stop
    | Register
    | Unknown
    | MarkHealthy
    | Withhold
    | Holdings
    | Probed
    | Configure
    | LabelNode
    | Limit
    | ApplyNow
    | ServiceState
)
Report = (
    Ready
    | Beat
    | Inventoried
    | Left
    | NotReady
    | Hung
    | Marked
    | Withhold
    | Holdings
    | Probed
    | Settled
    | Labelled
    | Unlabelled
    | NodeLabels
    | DraOffers
)
