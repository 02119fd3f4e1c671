"""What the stand-in for the MPS control daemon knows: its settings, servers and clients."""

import socket

INITIALIZING, ACTIVE, FAULT = "INITIALIZING", "ACTIVE", "FAULT"


class SetLimits:
    """SetLimits: the daemon's defaults, or those of one server."""

    def __init__(self, former: "SetLimits | None" = None) -> None:
        self.percentage: str = former.percentage if former else "100.0"
        self.limits: dict[str, int] = dict(former.limits) if former else {}
        """MiB by device as it was named: the daemon keeps an ordinal and a UUID apart."""

    def resolve(self, uuids: list[str]) -> None:
        """Keep the limits by UUID, as a server does; where it has two, the smaller one holds."""
        for ordinal, uuid in enumerate(uuids):
            if limit := self.limits.pop(str(ordinal), 0):
                self.limits[uuid] = min(limit, self.limits.get(uuid) or limit)


class KnownClient:
    """A process that uses a GPU through a server."""

    def __init__(self, connection: socket.socket, pid: int, uid: int, wants: bytes) -> None:
        self.connection = connection
        self.pid = pid
        self.uid = uid
        self.wants = wants
        """Its greeting: what it wants, for the server."""
        self.number = 0
        """Its place among the clients of its server, from 1."""


class KnownServer:
    """A server process."""

    def __init__(self, pid: int, uid: int, connection: socket.socket, settings: SetLimits) -> None:
        self.pid = pid
        self.uid = uid
        self.connection = connection
        self.settings = settings
        self.status = INITIALIZING
        self.closing = False
        """It takes no new clients, and ends when it is told so after the last."""
        self.retry: float | None = None
        """When the daemon tells it to end again."""
        self.delay = 0.0
        """Seconds until then."""
        self.clients: dict[int, KnownClient] = {}
        self.served = 0
        """Clients it has had so far."""
