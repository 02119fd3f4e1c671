"""How devices are shared by MPS, and what is known of the daemon that shares each of them."""

import enum

import msgspec

PIPE_PATH_LIMIT = 87
"""Most bytes of the path of a pipe folder; with more the daemon exits without a word."""


def pipe_folder(root: str, uuid: str) -> str:
    """Return the folder for the sockets of the daemon of a device."""
    return f"{root.rstrip('/')}/{uuid}/pipe"


def log_folder(root: str, uuid: str) -> str:
    """Return the folder for what the daemon of a device writes."""
    return f"{root.rstrip('/')}/{uuid}/log"


def shm_folder(root: str) -> str:
    """Return the folder that is /dev/shm for all daemons and clients."""
    return f"{root.rstrip('/')}/shm"


UNREACHABLE = "mps-root: "
"""How the detail of a daemon begins if clients cannot reach the folder of its sockets."""

STOPPED = "stopped for maintenance"
"""The detail of a daemon that has ended because of `quiesce`, until `resume`."""


class MpsShare(msgspec.Struct, frozen=True):
    """What one replica of a device that MPS shares comes to, and where its daemon is."""

    memory_mib: int | None = None
    """Most memory of the device for a replica; None: no limit."""
    threads: int | None = None
    """Percent of the device's multiprocessors for a replica; None: no limit."""
    single: bool = True
    """Whether a container may have one replica only.

    Then the daemon sets both limits for each of its clients. Otherwise the daemon sets none, and
    the container's variables set them in proportion to its replicas.
    """
    root: str = ""
    """Folder of the daemons, a part of which a container gets: both services must have the same."""


class Phase(enum.StrEnum):
    """What the keeper of a daemon is doing; written by the keeper alone."""

    STARTING = "starting"
    """The daemon or its server is not verified yet."""
    READY = "ready"
    """The daemon has the right limits, and its server is active: replicas are handed out."""
    DRAINING = "draining"
    """The daemon is to be replaced or ended as soon as its last client has ended."""
    FAULT = "fault"
    """A client's fault has stopped the server, until all of its clients have ended."""
    FAILED = "failed"
    """The daemon cannot be started, does not answer, or has other limits; it is tried again."""


class ServerStatus(enum.StrEnum):
    """What `get_server_status` answers."""

    INITIALIZING = "INITIALIZING"
    ACTIVE = "ACTIVE"
    FAULT = "FAULT"


class MpsClient(msgspec.Struct, frozen=True, array_like=True):
    """A process that uses a device through an MPS server."""

    pid: int
    """In the PID namespace of the daemon."""
    command: str = ""


class MpsDaemon(msgspec.Struct, frozen=True):
    """The MPS control daemon of one GPU or MIG instance, as its keeper sees it."""

    uuid: str
    """Of the device."""
    phase: Phase = Phase.STARTING
    detail: str = ""
    """Why the phase is not READY, for people."""
    since: float = 0.0
    """When the phase began, as Unix time."""
    pid: int = 0
    """Of the daemon; 0: it does not run."""
    server: int = 0
    """PID of its server; 0: none runs."""
    status: ServerStatus | None = None
    """None: there is no server, or it has not answered."""
    clients: tuple[MpsClient, ...] = ()
    share: MpsShare = MpsShare()
    """The limits that the daemon shall have."""
    restarts: int = 0
    """How often the daemon was started again after it had ended by itself, or was killed."""

    @property
    def ready(self) -> bool:
        """Whether a container may use the device now."""
        return self.phase is Phase.READY
