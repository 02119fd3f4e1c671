"""The state of NVIDIA's driver on the node."""

import enum


class DriverState(enum.StrEnum):
    """The state of the driver, as `gpu_sharing_driver_state` shows it; the values never change."""

    STARTING = "starting"
    """It has not answered yet."""
    LOADED = "loaded"
    """It answers."""
    MISSING = "missing"
    """The node has a GPU, but no driver: the module is not loaded, or the library is missing."""
    UNUSABLE = "unusable"
    """It is there, but cannot be used: it hangs, its versions differ, or access is denied."""
    NO_GPU = "no-gpu"
    """The node has no NVIDIA GPU."""
    PASSTHROUGH = "passthrough"
    """All NVIDIA GPUs of the node are reserved for virtual machines (vfio)."""


NOTHING_TO_SERVE = {
    DriverState.NO_GPU: "no NVIDIA GPU on this node",
    DriverState.PASSTHROUGH: "all NVIDIA GPUs of this node belong to virtual machines (vfio)",
}
"""The states in which the service has nothing to do, and is ready, with what it says then."""
