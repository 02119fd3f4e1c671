"""What the supervisor and a child say to each other: orders down, reports up, and their parts."""

import enum

import msgspec

from proto.messages import Inventory, Reason, ReasonKind
from proto.worker import Handout, ResourcePlan

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


class Labelled(msgspec.Struct, frozen=True, tag=True):
    """Report: the node's label names this configuration; empty: it has no such label."""

    value: str


class Settled(msgspec.Struct, frozen=True, tag=True):
    """Report: a worker is registered with the kubelet, or waits for it."""

    registered: bool


Order = Stop | Register | Unknown | MarkHealthy | Configure | ServiceState
Report = Ready | Beat | Inventoried | NotReady | Marked | Settled | Labelled
