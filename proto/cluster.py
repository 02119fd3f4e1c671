"""What the supervisor tells the cluster process at its start."""

import msgspec


class ClusterSettings(msgspec.Struct, frozen=True):
    """What that process is told at its start."""

    health_bus: str
    node: str
    """The node's name."""
    events: bool
    """Tell by Events."""
    condition: bool
    """Keep the node's condition."""
    label: str
    """The label whose value to report; empty: none."""
    stale_after: float
    """Seconds without a word of the monitor after which nothing is known of any device."""
