"""Reports devices that are not to be handed out to the supervisor, which tells the monitor.

These are the occupied ones, and those that containers hold through DRA; each where the settings
say so.
"""

import time
from collections.abc import Iterable, Mapping

from proto.channel import Channel
from proto.control import Withhold
from supervisor.exporter import occupied
from supervisor.exporter.occupied import KEEP, Listed, Suspects
from supervisor.status import dra
from supervisor.status.snapshot import Snapshot

EVERY = 5.0
"""Seconds between two reports while there is something to report."""


class WithheldReports:
    """Keeps what is found, and reports it when it changes, and regularly."""

    def __init__(
        self, channel: Channel, stale_after: float, *, hold_occupied: bool, hold_dra: bool
    ) -> None:
        self._channel = channel
        self._stale_after = stale_after
        self._hold_occupied = hold_occupied
        self._hold_dra = hold_dra
        self._suspects: Suspects = {}
        self._through_dra: Mapping[str, str] = {}
        self._listed = Listed()
        self._sent = Withhold()
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
        if self._hold_dra:
            self._through_dra = dra.told(snapshot.booked_twice())
        if self._hold_occupied:
            sights = occupied.sights(snapshot, now, self._stale_after)
            interval = snapshot.usage.state.interval if snapshot.usage else 0.0
            keep = max(KEEP, 2 * interval)
            self._suspects = occupied.after(self._suspects, sights, self._listed, now, keep)
        self.report(now)
        return occupied.doubtful(self._suspects)

    def tend(self, snapshot: Snapshot) -> None:
        """Forget what is no longer shown, and repeat the report if it is time."""
        if self._suspects or self._hold_dra:
            self.look(snapshot)

    def report(self, now: float, *, again: bool = False) -> None:
        """Report the devices if they changed, if it is time, or *again*."""
        found = Withhold(occupied.occupied(self._suspects), dict(self._through_dra))
        nothing = found == Withhold()
        if found != self._sent or (not nothing and (again or now >= self._due)):
            self._channel.send(found)
            self._sent, self._due = found, now + EVERY
