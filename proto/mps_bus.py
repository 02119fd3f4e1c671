"""The settings of the process that publishes the state of all MPS daemons."""

import msgspec

MPS_BUS = "mps.ipc"
"""In the plugin's runtime folder: the tree of the MPS daemons publishes there."""

BUS = "bus"
KEEPER = "mps "
"""How the name of a keeper's process begins; the UUID of its device follows."""


class MpsBusSettings(msgspec.Struct, frozen=True):
    """The settings of the process, fixed at its start."""

    health_bus: str
    """Where the plugin's monitor publishes the node's state."""
    keepers_bus: str
    """Where the keepers publish the state of their daemons."""
    mps_bus: str
    """Where this process publishes the state of all daemons."""
    stale_after: float
    """Seconds without a message from a keeper after which its daemon is unknown."""
    root: str
    """Folder of the MPS daemons."""
    state_folder: str
    """Where the keepers remember compute modes."""
