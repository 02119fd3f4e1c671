"""The paths through which processes reach each other and the kubelet."""

import msgspec


class Paths(msgspec.Struct, frozen=True):
    """The sockets of the bus and of the kubelet, and the monitor's trace file."""

    health_bus: str
    trace: str
    """The file in which the monitor records its running NVML call."""
    telemetry_bus: str
    kubelet_socket: str
    """The kubelet's registration socket; empty: serve without registering."""
    plugin_folder: str
