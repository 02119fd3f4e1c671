"""The settings that the supervisor passes to the cluster process, and what that reports of it."""

import msgspec

from proto.labels import LabelSettings


class ClusterSettings(msgspec.Struct, frozen=True):
    """The settings of the cluster process, fixed at its start."""

    health_bus: str
    mps_bus: str
    """Where the tree of the MPS daemons publishes their state; empty: it does not matter."""
    node: str
    """The node's name."""
    events: bool
    """Whether to write Events of the node."""
    condition: bool
    """Whether to maintain the node conditions."""
    label: str
    """The node label whose value to report; empty: none."""
    stale_after: float
    """Seconds without a message from the monitor after which the health of devices is unknown."""
    taint: bool = False
    """Whether to taint the node while all its GPUs are out."""
    labels: LabelSettings | None = None
    """How to label the node; None: not through the API server."""
    dra: bool = False
    """Whether to look at what DRA offers of this node."""


class DraOffers(msgspec.Struct, frozen=True, tag=True):
    """Report: what the API server says of DRA and this node, in words; empty: nothing."""

    devices: str = ""
    """Which driver offers devices that are advertised here."""
    resources: str = ""
    """Which advertised resources a DeviceClass names."""


class Labelled(msgspec.Struct, frozen=True, tag=True):
    """Report: the value of the node's configuration label; empty: the node has no such label."""

    value: str


class Unlabelled(msgspec.Struct, frozen=True, tag=True):
    """Report: the node's configuration label cannot be read for this *reason*."""

    reason: str
