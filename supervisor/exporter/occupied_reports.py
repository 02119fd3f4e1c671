"""Reports occupied devices to the supervisor, which has the monitor hold them back."""

import time
from collections.abc import Iterable

from proto.channel import Channel
from proto.control import Occupied
from supervisor.exporter import occupied
from supervisor.exporter.occupied import KEEP, Listed, Suspects
from supervisor.status.snapshot import Snapshot

EVERY = 5.0
"""Seconds between two reports while devices are occupied."""


class OccupiedReports:
    """Keeps the suspects, and reports the occupied devices when they change, and regularly."""

    def __init__(self, channel: Channel, stale_after: float) -> None:
        self._channel = channel
        self._stale_after = stale_after
        self._suspects: Suspects = {}
        self._listed = Listed()
        self._sent: dict[str, str] = {}
        self._due = 0.0

    def allocated(self, devices: Iterable[str]) -> None:
        """Note that some of the *devices* may have been allocated just now."""
        now = time.monotonic()
        times = {**self._listed.allocated, **dict.fromkeys(devices, now)}
        self._listed = Listed(self._listed.asked, times)

    def listed(self, asked: float) -> None:
        """Note that the newest list in the snapshot was *asked* for at that time."""
        self._listed = Listed(asked, self._listed.allocated)

    def look(self, snapshot: Snapshot) -> bool:
        """Take a new *snapshot* into account; return whether a new list would tell more."""
        now = time.monotonic()
        sights = occupied.sights(snapshot, now, self._stale_after)
        interval = snapshot.usage.state.interval if snapshot.usage else 0.0
        keep = max(KEEP, 2 * interval)
        self._suspects = occupied.after(self._suspects, sights, self._listed, now, keep)
        self.report(now)
        return occupied.doubtful(self._suspects)

    def tend(self, snapshot: Snapshot) -> None:
        """Forget leaks that are no longer shown, and repeat the report if it is time."""
        if self._suspects:
            self.look(snapshot)

    def report(self, now: float, *, again: bool = False) -> None:
        """Report the occupied devices if they changed, if it is time, or *again*."""
        found = occupied.occupied(self._suspects)
        if found != self._sent or (found and (again or now >= self._due)):
            self._channel.send(Occupied(found))
            self._sent, self._due = found, now + EVERY
