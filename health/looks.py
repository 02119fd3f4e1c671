"""Check GPUs for faults that no event reports; a missing feature is not a fault."""

from collections.abc import Iterable, Iterator

from health.condition import Look
from health.inventory import Slot
from health.nvml import Code, Nvml, NvmlError
from proto.messages import FailedGpu
from proto.reasons import Reason, ReasonKind

RECOVERY_ACTION = 230
"""NVML_FI_DEV_GET_GPU_RECOVERY_ACTION."""

ACTIONS = {
    1: "reset the GPU",
    2: "reboot the node",
    3: "drain peer-to-peer traffic",
    4: "drain and reset the GPU",
    5: "recover the IMEX domain",
    6: "reset the bus",
    7: "reboot the system",
}
"""nvmlDeviceGpuRecoveryAction_t; an unknown value also counts as a pending recovery action."""

DENIED = frozenset({Code.NO_PERMISSION, Code.UNKNOWN})
"""The driver's answers to a process that lost access to the device nodes."""

UNCORRECTED, VOLATILE = 1, 0
"""nvmlMemoryErrorType_t and nvmlEccCounterType_t: since the driver was loaded."""

TEMPERATURE_GPU, SHUTDOWN = 0, 0
"""nvmlTemperatureSensors_t and nvmlTemperatureThresholds_t."""


def look(nvml: Nvml, handle: object, nvlinks: int) -> Look:
    """Return the result of a check of a GPU that had *nvlinks* active links when enumerated."""
    try:
        # Query the memory: cached values are returned even for a lost GPU.
        nvml.ask("nvmlDeviceGetMemoryInfo", handle)
        action = nvml.field(handle, RECOVERY_ACTION)
        ailments = frozenset(_ailments(nvml, handle, action, nvlinks))
        # Only on drivers without recovery actions: there, energy is the only sign of a reset.
        energy = nvml.ask("nvmlDeviceGetTotalEnergyConsumption", handle) if action is None else None
        return Look(ailments=ailments, action=action, energy=energy)
    except NvmlError as error:
        if error.code == Code.GPU_IS_LOST:
            return Look(lost=True)
        return Look(failed=str(error), denied=error.code in DENIED)


def of_absent(slot: Slot | None, failed: Iterable[FailedGpu]) -> Look:
    """Return the check of a known GPU that was not enumerated.

    *slot* is the failed one at its index; without one, any of the *failed* GPUs may be it.
    """
    tried = [slot.failed] if slot and slot.failed else failed
    others = [gpu for gpu in tried if gpu.code != Code.GPU_IS_LOST]
    if not others:  # all failed GPUs are lost, or the driver does not show the GPU at all
        return Look(lost=True)
    return Look(failed=others[0].error, denied=all(gpu.code in DENIED for gpu in others))


def _ailments(nvml: Nvml, handle: object, action: int | None, nvlinks: int) -> Iterator[Reason]:
    if action:
        yield Reason(ReasonKind.RECOVERY_ACTION, ACTIONS.get(action, f"unknown action {action}"))
    if action is None and (errors := _uncorrected(nvml, handle)):
        # A driver that reports recovery actions knows better which errors matter.
        yield Reason(ReasonKind.ECC, str(errors))
    rows = nvml.ask("nvmlDeviceGetRemappedRows", handle)
    if rows and rows[3]:
        yield Reason(ReasonKind.ROW_REMAP, "failed")
    elif rows and rows[2]:
        yield Reason(ReasonKind.ROW_REMAP, "pending")
    # Links that do not answer any more, though they were counted, are down too.
    up = (nvml.nvlinks_up(handle) or 0) if nvlinks else 0
    if up < nvlinks:
        yield Reason(ReasonKind.NVLINK_DOWN, f"{nvlinks - up} of {nvlinks} links")
    if _too_hot(nvml, handle):
        yield Reason(ReasonKind.THERMAL)


def _uncorrected(nvml: Nvml, handle: object) -> int:
    return nvml.ask("nvmlDeviceGetTotalEccErrors", handle, UNCORRECTED, VOLATILE) or 0


def _too_hot(nvml: Nvml, handle: object) -> bool:
    limit = nvml.ask("nvmlDeviceGetTemperatureThreshold", handle, SHUTDOWN)
    now = nvml.ask("nvmlDeviceGetTemperature", handle, TEMPERATURE_GPU)
    return bool(limit) and now is not None and now >= limit
