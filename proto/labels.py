"""The settings of the processes that label the node."""

import enum

import msgspec


class LabelOutput(enum.StrEnum):
    """How labels get to the node."""

    OFF = "off"
    """Not at all."""
    FILE = "file"
    """In a file that node feature discovery (NFD) reads."""
    NODEFEATURE = "nodefeature"
    """In a NodeFeature object, which NFD reads."""
    NODE = "node"
    """Directly, without NFD."""

    @property
    def uses_api_server(self) -> bool:
        """Whether the cluster process writes the labels."""
        return self in {LabelOutput.NODEFEATURE, LabelOutput.NODE}


SYSFS = "/sys"

PRODUCT_NAME = "class/dmi/id/product_name"
"""Where the kernel shows below SYSFS the product name that the machine's firmware tells."""

FEATURE_FILE = "/etc/kubernetes/node-feature-discovery/features.d/gpu-sharing-plugin"
"""A file that NFD's worker reads; the folder is that of its source `local`."""


class LabelSettings(msgspec.Struct, frozen=True):
    """How the node is labelled, fixed at the start of the process that does it."""

    health_bus: str
    stale_after: float
    """Seconds without a message from the monitor after which the health of devices is unknown."""
    output: LabelOutput
    file: str = FEATURE_FILE
    interval: float = 60.0
    """Seconds after which the file is written again; it expires after three times that. 0: it never
    expires."""
    health: bool = False
    """Whether to tell how many GPUs are Healthy."""
    timestamp: bool = False
    """Whether to tell when the configuration was loaded."""
    machine_type_file: str = ""
    """The file with the kind of machine; empty: unknown."""
    pod: str = ""
    """Name of our pod, whose owner then owns the NodeFeature object; empty: unknown."""
