"""The sharing of a device by MPS in the JSON of /status.

Fields may be added, but never renamed or removed. An unknown value is null, never 0 or empty.
"""

from msgspec import Struct

from proto.mps import Phase, ServerStatus


class MpsClientStatus(Struct, frozen=True, kw_only=True):
    """A process that uses a device through its MPS server."""

    pid: int
    """Its PID, as the MPS daemon sees it: on the node, if the daemon has the node's PIDs."""
    command: str | None = None
    """Its program."""
    namespace: str | None = None
    """Its pod's namespace; null: not in a pod, or unknown."""
    pod: str | None = None
    """Its pod's name; null: not in a pod, or unknown."""
    container: str | None = None
    """Its container's name; null: not in a container, or unknown."""


class MpsStatus(Struct, frozen=True, kw_only=True):
    """How MPS shares a device; what its daemon would tell is null while nothing is heard of it."""

    phase: Phase | None = None
    """What is being done with the daemon; replicas are handed out only while it is `ready`."""
    detail: str | None = None
    """Why it is not ready; null: it is, or there is no more to tell."""
    since: float | None = None
    """When the phase began, as unix time."""
    pid: int | None = None
    """The PID of the daemon; null: it does not run."""
    server_pid: int | None = None
    """The PID of its server; null: none runs."""
    server_status: ServerStatus | None = None
    """What the server says of itself; null: there is none, or it has not answered."""
    restarts: int | None = None
    """How often the daemon was started again after it had ended by itself, or was killed."""
    memory_limit_mib: int | None = None
    """Most memory for a replica, in MiB; null: no limit."""
    threads_percent: int | None = None
    """Most multiprocessors for a replica, in percent of the device's; null: no limit."""
    one_replica: bool
    """Whether a container may have one replica only; the daemon sets the limits then."""
    clients: tuple[MpsClientStatus, ...] | None = None
    """The processes that use the server."""
