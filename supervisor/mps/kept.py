"""What a keeper knows of its daemon, what it sees of it, and what it can do."""

import enum

import msgspec

from proto.mps import MpsClient, MpsShare, Phase, ServerStatus
from supervisor.mps.commands import ClientLimits, Readings, limits


class Leaving(enum.Enum):
    """Whether and how the keeper ends together with its daemon."""

    NONE = "none"
    DRAIN = "drain"
    """As soon as the daemon has no clients."""
    NOW = "now"
    """At once, with all clients."""


class Do(enum.Enum):
    """What a keeper can do."""

    START = "start"
    """Prepare the folders and the compute mode, and start a daemon."""
    SEND_LIMITS = "send limits"
    START_SERVER = "start a server"
    SHUT_SERVER = "shut the server down"
    """Let the server end after its last client; there is no way back."""
    QUIT = "quit"
    """Let the daemon end after its last client; there is no way back."""
    QUIT_NOW = "quit now"
    KILL = "kill"
    END = "end"
    """Put the compute mode back, and end the keeper."""
    REST = "rest"
    """Adopt a daemon that runs; if there is none, put the compute mode back."""


class DaemonSeen(msgspec.Struct, frozen=True):
    """What one look at the daemon has found."""

    pid: int = 0
    """Of the daemon; 0: it does not run."""
    end: str = ""
    """How the daemon ended, if it did."""
    trouble: str = ""
    """Which command it did not answer, or answered with what; empty: all is understood."""
    server: int = 0
    status: ServerStatus | None = None
    clients: tuple[MpsClient, ...] = ()
    """If there is trouble: those that were seen last, and still run."""
    defaults: Readings | None = None
    """The limits of servers that start from now on; None: not read this time."""
    of_server: Readings | None = None
    """The limits of clients that come from now on; None: not read this time."""
    departed: bool = False
    """Whether a client of this server has ended, says the log."""


class Timing(msgspec.Struct, frozen=True):
    """How long a keeper waits, in seconds."""

    poll: float
    """Between two looks at a daemon that is well."""
    hang: float
    """Until something that should pass counts as hanging."""


class Kept(msgspec.Struct, frozen=True):
    """What a keeper knows of its daemon. All times are of one monotonic clock."""

    share: MpsShare
    """The share that the plan wants."""
    ending: Leaving = Leaving.NONE
    quiesced: bool = False
    """Whether the node is under maintenance: the daemon ends after its last client."""
    rests: bool = False
    """Whether the compute mode is put back for the maintenance, and no daemon is left."""
    hurried: bool = False
    """Whether not to wait for the clients of this daemon."""
    pid: int = 0
    has: ClientLimits | None = None
    """The limits that were sent to the daemon; None: not yet."""
    adopted: bool = False
    began: float = 0.0
    """When the daemon was started or adopted."""
    heard: float = 0.0
    """When it last answered everything."""
    wrong: str = ""
    """What is wrong with its limits, as they were last read."""
    checked: tuple[int, int] | None = None
    """The daemon and the server whose limits are as they shall be."""
    read_at: float | None = None
    """When the limits were last read; None: not since they were sent."""
    server: int = 0
    status: ServerStatus | None = None
    attempts: int = 0
    """How often a server was asked for since a server was last ready."""
    asked: float = 0.0
    """When a server was last asked for."""
    lost: float | None = None
    """Since when no server is ready."""
    odd: float | None = None
    """Since when something lasts that should pass, such as INITIALIZING."""
    closing: int = 0
    """The server that was told to end."""
    clients: tuple[MpsClient, ...] = ()
    quitting: float | None = None
    """When the daemon was told to end."""
    forced: bool = False
    """Whether it was told to end with its clients."""
    failures: int = 0
    """How often it failed in a row, without a stable run between."""
    failed_at: float = 0.0
    error: str = ""
    """Why it failed last."""
    restarts: int = 0
    ready_since: float | None = None
    """When this daemon became ready."""
    phase: Phase = Phase.STARTING
    detail: str = ""

    @property
    def wanted(self) -> ClientLimits:
        """The limits that the daemon shall have."""
        return limits(self.share)


class Decision(msgspec.Struct, frozen=True):
    """What to do now, and in how many seconds to look again."""

    kept: Kept
    wait: float
    do: Do | None = None
