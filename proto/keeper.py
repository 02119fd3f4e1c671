"""The settings of a keeper: the process that keeps the MPS daemon of one device."""

import enum

import msgspec

from proto.mps import MpsShare


class ComputeMode(enum.StrEnum):
    """Which compute mode a GPU has while its daemon runs."""

    EXCLUSIVE_PROCESS = "exclusive"
    """EXCLUSIVE_PROCESS: without its daemon a program fails, so none can go without limits."""
    UNCHANGED = "unchanged"
    """As it is found: in DEFAULT a program without the daemon runs without limits."""


class KeeperSettings(msgspec.Struct, frozen=True):
    """The settings of a keeper at its start."""

    uuid: str
    """Of the device: a GPU or a MIG instance."""
    share: MpsShare
    root: str
    """Folder of the MPS daemons, the same on the host and here."""
    state_folder: str
    """Where compute modes are remembered; it belongs to the tree of the MPS daemons."""
    bus: str
    """Where the keeper publishes what it knows of its daemon."""
    program: str = ""
    """Path of nvidia-cuda-mps-control; empty: on the PATH, or else below the driver's root."""
    driver_roots: tuple[str, ...] = ("/",)
    """This process finds the driver at the first of these that contains dev/, else at the last."""
    compute_mode: ComputeMode = ComputeMode.EXCLUSIVE_PROCESS
    binding: str = "health.binding"
    """Module of the NVML binding, for the compute mode."""
    binding_argument: str = "/"
    """Where the binding finds the driver: the driver root, or the simulated node's folder."""
    mounts: bool = True
    """Whether the memory that clients share is a mount; on a simulated node it is a folder."""
    poll_interval: float = 5.0
    """Seconds between two looks at the daemon."""
    hang_after: float = 15.0
    """Seconds after which a daemon or a server that does not answer or does not start hangs."""
