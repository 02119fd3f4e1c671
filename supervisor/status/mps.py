"""The MPS daemons in the status: how each device is shared, and by whom."""

from proto.mps import MpsClient, MpsDaemon, MpsShare
from supervisor.status.mps_report import MpsClientStatus, MpsStatus
from supervisor.status.snapshot import Snapshot
from supervisor.status.usage_owner import UNKNOWN, Owners


def statuses(snapshot: Snapshot, now: float, stale_after: float) -> dict[str, MpsStatus]:
    """Return the status of each device that MPS shares, or has a daemon left for, by UUID."""
    daemons, shares = snapshot.mps_daemons(now, stale_after), snapshot.mps_shares()
    owners = snapshot.usage.owners if snapshot.usage else Owners()
    found = {uuid: _limits(share) for uuid, share in shares.items()}
    return found | {uuid: _daemon(daemon, owners) for uuid, daemon in (daemons or {}).items()}


def _limits(share: MpsShare) -> MpsStatus:
    """Return what is known of a device without a word of its daemon: what the plan says."""
    return MpsStatus(
        memory_limit_mib=share.memory_mib, threads_percent=share.threads, one_replica=share.single
    )


def _daemon(daemon: MpsDaemon, owners: Owners) -> MpsStatus:
    return MpsStatus(
        phase=daemon.phase,
        detail=daemon.detail or None,
        since=daemon.since or None,
        pid=daemon.pid or None,
        server_pid=daemon.server or None,
        server_status=daemon.status,
        restarts=daemon.restarts,
        memory_limit_mib=daemon.share.memory_mib,
        threads_percent=daemon.share.threads,
        one_replica=daemon.share.single,
        clients=tuple(_client(daemon.uuid, client, owners) for client in daemon.clients),
    )


def _client(uuid: str, client: MpsClient, owners: Owners) -> MpsClientStatus:
    owner = owners.of.get((uuid, client.pid), UNKNOWN)
    return MpsClientStatus(
        pid=client.pid,
        command=client.command or None,
        namespace=owner.namespace or None,
        pod=owner.pod or None,
        container=owner.container or None,
    )
