"""How the devices of a node are advertised, for the processes that label the node."""

import enum

import msgspec


class MigStrategy(enum.StrEnum):
    """How to advertise GPUs in MIG mode."""

    NONE = "none"
    """As whole GPUs."""
    SINGLE = "single"
    """MIG instances as nvidia.com/gpu; all must have the same profile."""
    MIXED = "mixed"
    """One resource per MIG profile."""


class SharingStrategy(enum.StrEnum):
    """How the replicas of a device share it."""

    NONE = "none"
    """Not at all: the device has one replica."""
    TIME_SLICING = "time-slicing"
    MPS = "mps"


class Advertised(msgspec.Struct, frozen=True):
    """Devices that are advertised alike."""

    resource: str
    devices: tuple[str, ...]
    """UUIDs of GPUs and MIG instances."""
    replicas: int = 1
    """Replicas of each device."""
    strategy: SharingStrategy = SharingStrategy.NONE
    renamed: bool = False
    """Whether *resource* is the name of the replicas only, not of the device before sharing."""


class Advertising(msgspec.Struct, frozen=True, tag=True):
    """Order: label the node for devices that are advertised like this."""

    mig: MigStrategy = MigStrategy.NONE
    resources: tuple[Advertised, ...] = ()
    """A device that is in none of them is not advertised."""
