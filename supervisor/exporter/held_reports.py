"""Reports which devices containers hold; the supervisor passes it on to the cluster process."""

from proto.channel import Channel
from proto.holdings import Holdings
from supervisor.status.snapshot import Snapshot

EVERY = 10.0
"""Seconds between two reports without a change: the cluster process may be a new one."""


class HeldReports:
    """Keeps what was reported, and reports it when it changes, and regularly."""

    def __init__(self, channel: Channel, *, wanted: bool) -> None:
        self._channel = channel
        self._wanted = wanted
        self._sent: Holdings | None = None
        self._due = 0.0

    def tell(self, snapshot: Snapshot, now: float) -> None:
        """Report what containers hold in *snapshot*, if that is due."""
        if not self._wanted:
            return
        found = Holdings(_held(snapshot))
        if found != self._sent or now >= self._due:
            self._channel.send(found)
            self._sent, self._due = found, now + EVERY


def _held(snapshot: Snapshot) -> tuple[str, ...] | None:
    if snapshot.allocations is None:
        return None
    ours = {held.uuid for held in (*snapshot.allocations, *snapshot.foreign)}
    theirs = {uuid for hold in snapshot.through_dra() for uuid in hold.uuids}
    return tuple(sorted(ours | theirs))
