"""Look at a GPU for what no event tells; what a GPU or driver does not know is no fault."""

from collections.abc import Iterable, Iterator, Mapping

from health.condition import Look
from health.nvml import Code, Nvml, NvmlError
from proto.messages import FailedGpu, Inventory, Reason, ReasonKind

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
"""nvmlDeviceGpuRecoveryAction_t; a value that is not here is no word of health either."""

DENIED = frozenset({Code.NO_PERMISSION, Code.UNKNOWN})
"""What the driver answers to a process that may not open the device nodes any more."""

UNCORRECTED, VOLATILE = 1, 0
"""nvmlMemoryErrorType_t and nvmlEccCounterType_t: since the driver was loaded."""

TEMPERATURE_GPU, SHUTDOWN = 0, 0
"""nvmlTemperatureSensors_t and nvmlTemperatureThresholds_t."""


def look(nvml: Nvml, handle: object, nvlinks: int) -> Look:
    """Return what a look at a GPU shows that had so many *nvlinks* when it was enumerated."""
    try:
        # Asked by memory: what the driver has in its cache it tells of a lost GPU too.
        nvml.ask("nvmlDeviceGetMemoryInfo", handle)
        action = nvml.field(handle, RECOVERY_ACTION)
        ailments = frozenset(_ailments(nvml, handle, action, nvlinks))
        # Asked for only where it is needed, as the one sign of a reset that such drivers give.
        energy = nvml.ask("nvmlDeviceGetTotalEnergyConsumption", handle) if action is None else None
        return Look(ailments=ailments, action=action, energy=energy)
    except NvmlError as error:
        if error.code == Code.GPU_IS_LOST:
            return Look(lost=True)
        return Look(failed=str(error), denied=error.code in DENIED)


def look_at_all(nvml: Nvml, inventory: Inventory, handles: Mapping[str, object]) -> dict[str, Look]:
    """Return what looks at all GPUs show, by UUID; one without a handle could not be enumerated."""
    return {
        gpu.uuid: look(nvml, handles[gpu.uuid], gpu.nvlinks)
        if gpu.uuid in handles
        else _unreachable(inventory.failed)
        for gpu in inventory.gpus
    }


def _unreachable(failed: Iterable[FailedGpu]) -> Look:
    others = [one for one in failed if one.code != Code.GPU_IS_LOST]
    if not others:  # or not even told of
        return Look(lost=True)
    return Look(failed=others[0].error, denied=all(one.code in DENIED for one in others))


def _ailments(nvml: Nvml, handle: object, action: int | None, nvlinks: int) -> Iterator[Reason]:
    if action:
        yield Reason(ReasonKind.RECOVERY_ACTION, ACTIONS.get(action, f"unknown action {action}"))
    if action is None and (errors := _uncorrected(nvml, handle)):
        # Where the driver says which recovery is due, it knows better which errors matter.
        yield Reason(ReasonKind.ECC, f"{errors} uncorrected errors")
    rows = nvml.ask("nvmlDeviceGetRemappedRows", handle)
    if rows and rows[3]:
        yield Reason(ReasonKind.ROW_REMAP, "failed")
    elif rows and rows[2]:
        yield Reason(ReasonKind.ROW_REMAP, "pending")
    up = nvml.nvlinks_up(handle) if nvlinks else None
    if up is not None and up < nvlinks:
        yield Reason(ReasonKind.NVLINK_DOWN, f"{nvlinks - up} of {nvlinks} links")
    if _too_hot(nvml, handle):
        yield Reason(ReasonKind.THERMAL)


def _uncorrected(nvml: Nvml, handle: object) -> int:
    return nvml.ask("nvmlDeviceGetTotalEccErrors", handle, UNCORRECTED, VOLATILE) or 0


def _too_hot(nvml: Nvml, handle: object) -> bool:
    limit = nvml.ask("nvmlDeviceGetTemperatureThreshold", handle, SHUTDOWN)
    now = nvml.ask("nvmlDeviceGetTemperature", handle, TEMPERATURE_GPU)
    return bool(limit) and now is not None and now >= limit
