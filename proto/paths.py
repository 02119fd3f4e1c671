"""Where the processes meet each other and the kubelet."""

import msgspec


class Paths(msgspec.Struct, frozen=True):
    """Where processes meet: the bus's sockets and the kubelet's."""

    health_bus: str
    trace: str
    """Where the monitor notes which call of the driver's is running."""
    telemetry_bus: str
    kubelet_socket: str
    """Empty: serve, but do not register."""
    plugin_folder: str
