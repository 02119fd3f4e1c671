"""The open connections of all clients, and which of them is closed when there are too many."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

CONNECTIONS = 512
"""Open connections from which on those are closed that keep us waiting."""

FULL = 1024
"""Maximum number of open connections."""

FRESH = 1.0
"""Seconds for which a connection may keep us waiting before another one may have its place."""


@dataclass(eq=False, slots=True)
class Visitor:
    """An open connection."""

    source: str
    """The client's address, without the port."""
    since: float
    """Since when we wait for the client: to begin or to finish a request, or to read the answer."""
    hang_up: Callable[[], None]
    """Closes the connection at once."""


Visitors = Mapping[str, Mapping[Visitor, None]]
"""The clients by source, those that we wait for the longest first; no source has none."""


def victim(clients: Visitors, now: float, *, full: bool) -> Visitor | None:
    """Return the connection that has to make room for another one; None if all may stay.

    It is one of the source with the most connections, so that one source never takes the place of
    all others. Unless no connection is left at all (*full*), it is not a fresh one.
    """
    most = max(map(len, clients.values()))
    oldest = (next(iter(found)) for found in clients.values() if len(found) == most)
    found = min(oldest, key=lambda client: client.since)
    return found if full or now - found.since >= FRESH else None


class Crowd:
    """Keeps the open connections, and hangs up when there are too many."""

    def __init__(self, most: int = CONNECTIONS, full: int = FULL) -> None:
        self._most = most
        self._full = full
        self._count = 0
        self._clients: dict[str, dict[Visitor, None]] = {}

    def __len__(self) -> int:
        return self._count

    def __contains__(self, client: Visitor) -> bool:
        return client in self._clients.get(client.source, ())

    def enter(self, client: Visitor) -> None:
        """Add a *client* that came now, which may close another client's connection."""
        self._clients.setdefault(client.source, {})[client] = None
        self._count += 1
        self.make_room(self._most, client.since)

    def make_room(self, most: int, now: float) -> None:
        """Hang up on clients until at most *most* are left, as far as the others are not fresh."""
        while self._count > most:
            found = victim(self._clients, now, full=self._count > self._full)
            if found is None:
                return
            self.leave(found)
            found.hang_up()

    def waits(self, client: Visitor, now: float) -> None:
        """Note that we wait for *client* since *now*; for a client that has left, do nothing."""
        if client in self:
            client.since = now
            found = self._clients[client.source]
            del found[client]
            found[client] = None

    def leave(self, client: Visitor) -> None:
        """Forget a *client* whose connection ends; it may have left before."""
        if client in self:
            found = self._clients[client.source]
            del found[client]
            self._count -= 1
            if not found:
                del self._clients[client.source]
