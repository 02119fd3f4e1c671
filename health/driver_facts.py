"""What the driver tells about itself: a job of its lane, in which a failed query costs one fact."""

import msgspec

from health.nvml import Nvml, NvmlError
from health.pci import bus_id

MOST = 64
"""The most excluded GPUs that are asked for; the largest machines have 16 GPUs."""


class DriverFacts(msgspec.Struct, frozen=True):
    """Facts that stay as they are while the driver is loaded."""

    cuda: int | None = None
    """The newest CUDA version that the driver supports, as NVML writes it; None: not known."""
    excluded: tuple[str, ...] = ()
    """PCI addresses of the GPUs that the driver must not use, as far as it tells."""


def find_driver_facts(nvml: Nvml) -> DriverFacts:
    """Ask the driver for its facts."""
    return DriverFacts(_cuda(nvml), _excluded(nvml))


def _cuda(nvml: Nvml) -> int | None:
    """Ask the driver for the newest CUDA version that it supports.

    NVML reads it from libcuda.so.1, which makes no CUDA context. Without that library this call
    gives the version that NVML was made for, whereas the one with _v2 fails. Source: NVML's manual.
    """
    try:
        number = int(nvml.call("nvmlSystemGetCudaDriverVersion"))
    except NvmlError:
        return None
    return number if number > 0 else None


def _excluded(nvml: Nvml) -> tuple[str, ...]:
    """Ask for the GPUs of the module's parameter NVreg_ExcludedGpus. Source: NVML's manual."""
    try:
        count = min(int(nvml.ask("nvmlGetExcludedDeviceCount") or 0), MOST)
        found = [nvml.call("nvmlGetExcludedDeviceInfoByIndex", index) for index in range(count)]
    except NvmlError:
        return ()
    return tuple(sorted(filter(None, (bus_id(info.pci.busId) for info in found))))
