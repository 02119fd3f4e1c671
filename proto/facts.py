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
    """UUID of the cluster of GPUs; empty: the GPU is in no clique."""
    clique: int
    """Number of the clique in the cluster: the GPUs that can reach each other's memory."""
    complete: bool = True
    """False: the GPU has not joined its fabric yet, or failed to."""

    @property
    def may_change(self) -> bool:
        """Whether the GPU may join or leave a clique."""
        return bool(self.cluster) or not self.complete


class NumaNodes(msgspec.Struct, frozen=True):
    """The NUMA nodes of the machine."""

    total: int = 0
    """0: not known."""
    without_cpus: int = 0
    memory_mode: str = ""
    """The driver's parameter NVreg_CoherentGPUMemoryMode; empty: its default, or not known."""


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
    """None: the driver does not report it."""
    virtual: bool | None = None
    """Whether it is a virtual GPU (vGPU)."""
    host_driver: HostDriver | None = None
    """None: it is no virtual GPU."""
