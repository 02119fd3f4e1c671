"""What only labels tell about a GPU or a MIG instance: no device needs it to be advertised."""

import msgspec


class MigAttributes(msgspec.Struct, frozen=True):
    """How much of its GPU a MIG instance has, in numbers of each."""

    multiprocessors: int
    gi_slices: int
    ci_slices: int
    copy_engines: int
    decoders: int
    encoders: int
    jpeg_engines: int
    ofa_engines: int
    """Engines for optical flow."""


class Fabric(msgspec.Struct, frozen=True):
    """A GPU's place in an NVLink fabric, which may connect the GPUs of several nodes."""

    cluster: str
    """UUID of the cluster of GPUs."""
    clique: int
    """Number of the clique in the cluster: the GPUs that can reach each other's memory."""
    complete: bool = True
    """Whether the GPU has joined the fabric; if not, the other values mean nothing yet."""


class HostDriver(msgspec.Struct, frozen=True):
    """The driver of the machine that gives a virtual GPU to this one; empty: not reported."""

    version: str = ""
    branch: str = ""


class GpuFacts(msgspec.Struct, frozen=True):
    """What only labels tell about a GPU; None: not known."""

    pci_class: int | None = None
    """PCI class, subclass and programming interface, such as 0x030200."""
    mig_capable: bool | None = None
    fabric: Fabric | None = None
    """None: the GPU is in no fabric, or the driver does not report it."""
    virtual: bool | None = None
    """Whether it is a virtual GPU (vGPU)."""
    host_driver: HostDriver | None = None
    """None: it is no virtual GPU."""
