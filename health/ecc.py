"""Uncorrectable memory errors: the only sign of a bad memory without recovery actions."""

from health.nvml import Nvml, NvmlError

UNCORRECTED, VOLATILE = 1, 0
"""nvmlMemoryErrorType_t and nvmlEccCounterType_t: since the driver was loaded."""

DISABLED = 0
"""nvmlEnableState_t."""


def uncorrected(nvml: Nvml, handle: object) -> int | None:
    """Return the number of uncorrectable memory errors; None: the GPU does not count them."""
    errors = nvml.ask("nvmlDeviceGetTotalEccErrors", handle, UNCORRECTED, VOLATILE)
    return None if errors is None else int(errors)


def switched_off(nvml: Nvml, handle: object) -> bool:
    """Return whether ECC mode is off now; it changes only with a reset of the GPU."""
    mode = nvml.ask("nvmlDeviceGetEccMode", handle)
    return bool(mode) and mode[0] == DISABLED


def counts_errors(nvml: Nvml, handle: object) -> bool | None:
    """Return whether the GPU counts memory errors; False: ECC mode is off; None: not known."""
    try:
        if uncorrected(nvml, handle) is not None:
            return True
        return False if switched_off(nvml, handle) else None
    except NvmlError:
        return None  # the next health check decides about the GPU
