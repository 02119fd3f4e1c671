"""What the stand-in for the MPS control daemon knows: its settings, servers and clients."""

import socket

INITIALIZING, ACTIVE, FAULT = "INITIALIZING", "ACTIVE", "FAULT"


class Settings:
    """Limits: the daemon's defaults, or those of one server."""

    def __init__(self, former: "Settings | None" = None) -> None:
        self.percentage: str = former.percentage if former else "100.0"
        self.limits: dict[str, str] = dict(former.limits) if former else {}
        """Memory limits by device as it was named: an ordinal and a UUID are kept apart."""

    def limit_of(self, uuid: str) -> str:
        """Return the memory limit of the daemon's only GPU; the last that was set wins."""
        found = [limit for device, limit in self.limits.items() if device in (uuid, "0")]
        return found[-1] if found else ""


class Client:
    """A process that uses a GPU through a server."""

    def __init__(self, connection: socket.socket, pid: int, uid: int, wants: bytes) -> None:
        self.connection = connection
        self.pid = pid
        self.uid = uid
        self.wants = wants
        """Its greeting: what it wants, for the server."""
        self.number = 0
        """Its place among the clients of its server, from 1."""


class Server:
    """A server process."""

    def __init__(self, pid: int, uid: int, connection: socket.socket, settings: Settings) -> None:
        self.pid = pid
        self.uid = uid
        self.connection = connection
        self.settings = settings
        self.status = INITIALIZING
        self.closing = False
        """It takes no new clients and ends after the last."""
        self.clients: dict[int, Client] = {}
        self.served = 0
        """Clients it has had so far."""
