"""What the supervisor and the process that speaks with the Kubernetes API say to each other."""

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


class Labelled(msgspec.Struct, frozen=True, tag=True):
    """Report: the node's label names this configuration; empty: it has no such label."""

    value: str
