"""The metrics of MPS: of the daemon that shares each device, and of its server."""

from collections.abc import Iterator

from proto.mps import MpsDaemon, Phase, ServerStatus
from supervisor.exporter.family import Family, Sample
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage import MIB

PERCENT = 100

NO_SERVER = "none"

STATES = (NO_SERVER, *(status.lower() for status in ServerStatus))

FAMILIES = (
    Family(
        "mps_up",
        (),
        "1 while gpu-sharing-plugin mps reports its daemons, else 0; absent without MPS.",
    ),
    Family(
        "mps_daemon_phase",
        ("uuid", "phase"),
        "1 for the current phase of the MPS daemon of a GPU or MIG instance, 0 for the others.",
    ),
    Family(
        "mps_server_state",
        ("uuid", "state"),
        "1 for the current state of the MPS server of a GPU or MIG instance, 0 for the others.",
    ),
    Family("mps_clients", ("uuid",), "Processes that use the MPS server of a GPU or MIG instance."),
    Family(
        "mps_daemon_restarts",
        ("uuid",),
        "How often an MPS daemon was started again after it had ended by itself, or was killed.",
        "counter",
    ),
    Family(
        "mps_replica_memory_limit_bytes",
        ("uuid",),
        "Memory limit of a replica of a GPU or MIG instance; absent: no limit.",
    ),
    Family(
        "mps_replica_threads_limit_ratio",
        ("uuid",),
        "Limit of a replica's multiprocessors, 0 to 1; absent: no limit.",
    ),
)


def samples(snapshot: Snapshot, now: float, stale_after: float) -> Iterator[Sample]:
    """Yield the samples of MPS at *now*; without a word of the daemons only that there is none."""
    daemons = snapshot.mps_daemons(now, stale_after)
    if daemons or snapshot.mps_shares():
        yield Sample("mps_up", daemons is not None)
    for daemon in (daemons or {}).values():
        yield from _daemon(daemon)


def _daemon(daemon: MpsDaemon) -> Iterator[Sample]:
    uuid, state = daemon.uuid, _state(daemon)
    for phase in Phase:
        yield Sample("mps_daemon_phase", phase is daemon.phase, (uuid, phase))
    for name in STATES:
        yield Sample("mps_server_state", name == state, (uuid, name))
    yield Sample("mps_clients", len(daemon.clients), (uuid,))
    yield Sample("mps_daemon_restarts", daemon.restarts, (uuid,))
    if daemon.share.memory_mib is not None:
        yield Sample("mps_replica_memory_limit_bytes", daemon.share.memory_mib * MIB, (uuid,))
    if daemon.share.threads is not None:
        yield Sample("mps_replica_threads_limit_ratio", daemon.share.threads / PERCENT, (uuid,))


def _state(daemon: MpsDaemon) -> str | None:
    """Return the state of the server; None: it does not answer."""
    if not daemon.server:
        return NO_SERVER
    return daemon.status.lower() if daemon.status else None
