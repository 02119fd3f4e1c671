"""What the supervisor and a child say to each other, and the socket pair on which they say it.

Down go orders, up go reports. Each is one datagram (SOCK_SEQPACKET), so that a child that hangs
in the middle of one cannot block the supervisor; see docs/decisions/0002-control-channel.md.
"""

import enum
import errno
import socket
from typing import Self

import msgspec

from proto.messages import Inventory

MESSAGE_LIMIT = 1 << 20
"""Bytes of the largest message; Linux sends no more than the socket buffer, 208 KiB by default."""

BEAT_EVERY = 1.0
"""Seconds between two signs of life of a child."""


class ExitCode(enum.IntEnum):
    """What a process of ours tells its parent by its exit status."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    """The command line or the configuration is wrong: starting again would not help."""
    NOT_READY = 3
    """The environment (driver, device) is not there yet: start again, slowly."""


class AllocationPolicy(enum.StrEnum):
    """How replicas and MIG instances are preferred, over physical GPUs."""

    DISTRIBUTED = "distributed"
    """Distinct GPUs first, then those with most left."""
    PACKED = "packed"
    """One GPU after the other, the fullest first."""
    SPREAD = "spread"
    """Distinct GPUs only: a request that needs more of them than there are is refused."""


class CdiSettings(msgspec.Struct, frozen=True):
    """How the Container Device Interface specifications are generated."""

    spec_folder: str
    vendor: str
    """The part of the CDI kind before the slash."""
    device_class: str
    """The part behind it."""
    device_names: str
    """`uuid` or `index`."""
    hook_path: str
    """The hook's binary on the host, as the specification names it."""
    driver_root: str
    """On the host."""
    dev_root: str
    """On the host."""
    container_driver_root: str
    """Where the driver's root is mounted for us; `/` where we run beside it."""
    feature_flags: tuple[str, ...] = ()
    disabled_hooks: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    """Further specifications: any of gdrcopy, gds, mofed."""


class PlannedDevice(msgspec.Struct, frozen=True):
    """A device that a resource consists of."""

    uuid: str
    gpu: str
    """UUID of the physical GPU, the device's own unless it is a MIG instance."""
    replicas: int
    numa_node: int | None = None


class ResourcePlan(msgspec.Struct, frozen=True):
    """A resource name and the devices that are advertised under it."""

    resource: str
    devices: tuple[PlannedDevice, ...]


class Paths(msgspec.Struct, frozen=True):
    """Where processes meet: the bus's sockets and the kubelet's."""

    health_bus: str
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


class WorkerSettings(msgspec.Struct, frozen=True):
    """What a worker is told at its start."""

    paths: Paths
    endpoint: str
    """Base name of the worker's socket in the plugin folder."""
    stale_after: float
    plan: ResourcePlan


class ExporterSettings(msgspec.Struct, frozen=True):
    """What the exporter is told at its start."""

    paths: Paths
    host: str
    port: int
    stale_after: float
    version: str
    url_file: str
    """Where to leave the URL, for those who look for the running service."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Order: end; *withdraw* if the resource is gone for good, so its list goes empty first."""

    withdraw: bool = False


class Register(msgspec.Struct, frozen=True, tag=True):
    """Order: the kubelet's socket is a new one, register there."""


class Configure(msgspec.Struct, frozen=True, tag=True):
    """Order: advertise this from now on."""

    plan: ResourcePlan


class ProcessState(msgspec.Struct, frozen=True):
    """One child as the supervisor sees it."""

    name: str
    state: str
    restarts: int


class ServiceState(msgspec.Struct, frozen=True, tag=True):
    """Order to the exporter: show this; coming every second, it tells that the supervisor loops."""

    processes: tuple[ProcessState, ...]
    planned: tuple[str, ...] | None
    """Resource names; None before the node's first inventory."""
    problem: str = ""
    """Why there is no inventory."""


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


Order = Stop | Register | Configure | ServiceState
Report = Ready | Beat | Inventoried | NotReady

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Order | Report] = msgspec.msgpack.Decoder(Order | Report)


class ClosedError(Exception):
    """The other side is gone."""


class Channel:
    """One end of the socket pair between the supervisor and a child; it never blocks."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return both ends."""
        first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(first), cls(second)

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._end.fileno()

    @property
    def closed(self) -> bool:
        """Whether this end was closed."""
        return self._end.fileno() < 0

    def close(self) -> None:
        """Hang up."""
        self._end.close()

    def send(self, message: Order | Report) -> bool:
        """Send *message*; False when the other side is gone or does not read what it has."""
        try:
            self._end.send(_encoder.encode(message))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise  # it would be lost every time: a mistake of ours, not of the other side
            return False
        return True

    def receive(self) -> Order | Report | None:
        """Return the next message, None when there is none now; raise ClosedError at the end."""
        try:
            data = self._end.recv(MESSAGE_LIMIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise ClosedError from error
        if not data:
            raise ClosedError
        return _decoder.decode(data)
