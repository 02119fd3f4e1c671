"""How much of a GPU is in use, as the driver tells it; None: the driver does not tell."""

import enum

import msgspec


class ProcessKind(enum.StrEnum):
    """What a process does on a GPU."""

    COMPUTE = "compute"
    GRAPHICS = "graphics"
    MPS = "mps"
    """A client of an MPS server."""


class GpuProcess(msgspec.Struct, frozen=True, array_like=True):
    """A process that uses a GPU or MIG instance; each process is there once."""

    pid: int
    kind: ProcessKind
    memory: int | None = None
    """Bytes of the device's memory."""
    utilization: int | None = None
    """Percent of the device's multiprocessors, since the sample before."""


class DeviceUsage(msgspec.Struct, frozen=True):
    """One sample of a GPU, or of a MIG instance, which has memory and processes only."""

    uuid: str
    taken: float
    """When the sample began, in seconds since the node booted (CLOCK_BOOTTIME).

    The processes existed after that moment. So a process that started later is another one, which
    got the same PID.
    """
    utilization: int | None = None
    """Percent of the time in which the GPU worked."""
    memory_utilization: int | None = None
    """Percent of the time in which the memory was read or written."""
    memory_used: int | None = None
    """Bytes, without the reserved memory, if the driver tells that."""
    memory_total: int | None = None
    """Bytes, with the reserved memory."""
    memory_reserved: int | None = None
    """Bytes that the driver keeps for itself."""
    temperature: int | None = None
    """Degrees Celsius."""
    power: float | None = None
    """Watts."""
    power_limit: float | None = None
    """Watts; the limit that is enforced."""
    sm_clock: int | None = None
    """MHz."""
    memory_clock: int | None = None
    """MHz."""
    processes: tuple[GpuProcess, ...] | None = None
    """By PID. Of a GPU in MIG mode, only its instances have processes."""
