"""The paths through which processes reach each other and the kubelet."""

import msgspec


class Paths(msgspec.Struct, frozen=True):
    """The sockets of the bus and of the kubelet."""

    health_bus: str
    telemetry_bus: str
    kubelet_socket: str
    """The kubelet's registration socket; empty: serve without registering."""
    plugin_folder: str
    mps_bus: str = ""
    """Where the tree of the MPS daemons publishes their state; empty: nowhere."""
