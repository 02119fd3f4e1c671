"""Check GPUs for faults that no event reports; a missing feature is not a fault."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from health import device_nodes, ecc, pci, readiness_calls
from health.condition import Look
from health.enumeration import SystemRoots
from health.inventory import Slot
from health.nvml import Code, Nvml, NvmlError
from health.recovery_actions import acquits, words
from proto.messages import FailedGpu, Gpu
from proto.monitor import ReadinessRules
from proto.names import ALL, DXG
from proto.reasons import Reason, ReasonKind

RECOVERY_ACTION = 230
"""NVML_FI_DEV_GET_GPU_RECOVERY_ACTION."""

DENIED = frozenset({Code.NO_PERMISSION, Code.OPERATING_SYSTEM, Code.UNKNOWN})
"""The driver's answers to a process that lost access to the device nodes."""

ROOTS, RULES = SystemRoots(), ReadinessRules()

TEMPERATURE_GPU, SHUTDOWN = 0, 0
"""nvmlTemperatureSensors_t and nvmlTemperatureThresholds_t."""


def look(
    nvml: Nvml,
    handle: object,
    gpu: Gpu,
    roots: SystemRoots = ROOTS,
    rules: ReadinessRules = RULES,
) -> Look:
    """Return the result of a check of *gpu*, compared with what was known of it to be good."""
    try:
        # Query the memory: cached values are returned even for a lost GPU.
        nvml.ask("nvmlDeviceGetMemoryInfo", handle)
        action = nvml.field(handle, RECOVERY_ACTION)
        ailments = frozenset(_ailments(nvml, handle, action, gpu))
        ailments |= _without_node(nvml, gpu, roots.dev)
        # Only on drivers without recovery actions: there, energy is the only sign of a reset.
        energy = nvml.ask("nvmlDeviceGetTotalEnergyConsumption", handle) if action is None else None
        ready = readiness_calls.find(nvml, handle, gpu, rules)
        return Look(ailments=ailments, action=action, energy=energy, ready=ready)
    except NvmlError as error:
        if given := pci.passthrough(roots.sysfs, gpu.pci_bus_id):
            return Look(ailments=frozenset({given}))
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
    denied = all(gpu.code in DENIED for gpu in others)
    return Look(failed=others[0].error, denied=denied, unreached=True)


def of_given_away(drivers: Mapping[str, str], gpus: Iterable[Gpu]) -> dict[str, Look]:
    """Return the check of each of *gpus* that is given to another driver, by UUID.

    *drivers* are the drivers by PCI address. NVML does not show such a GPU, which is no fault.
    """
    given = ((gpu.uuid, drivers[gpu.pci_bus_id]) for gpu in gpus if gpu.pci_bus_id in drivers)
    return {uuid: Look(ailments=frozenset({pci.reason(driver)})) for uuid, driver in given}


def _ailments(nvml: Nvml, handle: object, action: int | None, gpu: Gpu) -> Iterator[Reason]:
    if action is not None and not acquits(action):
        yield Reason(ReasonKind.RECOVERY_ACTION, words(action))
    if action is None:
        # A driver that reports recovery actions knows better which errors matter.
        yield from _memory_errors(nvml, handle, gpu)
    rows = nvml.ask("nvmlDeviceGetRemappedRows", handle)
    if rows and rows[3]:
        yield Reason(ReasonKind.ROW_REMAP, "failed")
    elif rows and rows[2]:
        yield Reason(ReasonKind.ROW_REMAP, "pending")
    # Links that do not answer any more, though they were counted, are down too.
    up = (nvml.nvlinks_up(handle) or 0) if gpu.nvlinks else 0
    if up < gpu.nvlinks:
        yield Reason(ReasonKind.NVLINK_DOWN, f"{gpu.nvlinks - up} of {gpu.nvlinks} links")
    if _too_hot(nvml, handle):
        yield Reason(ReasonKind.THERMAL)


def _without_node(nvml: Nvml, gpu: Gpu, dev: tuple[Path, ...]) -> frozenset[Reason]:
    """Return the reason if a GPU of WSL2 has lost its device node; others may have none here."""
    if gpu.uuid != ALL:
        return frozenset()
    with nvml.doing(f"look for {DXG}"):
        if device_nodes.is_there(device_nodes.root_of(dev), DXG):
            return frozenset()
    return frozenset({Reason(ReasonKind.NO_ACCESS, f"{DXG} does not exist")})


def _memory_errors(nvml: Nvml, handle: object, gpu: Gpu) -> Iterator[Reason]:
    errors = ecc.uncorrected(nvml, handle)
    if errors:
        yield Reason(ReasonKind.ECC, str(errors))
    elif errors is None and gpu.ecc and not ecc.switched_off(nvml, handle):
        # Errors that are no longer counted are not "no errors".
        yield Reason(ReasonKind.ECC, "the error counter can no longer be read")


def _too_hot(nvml: Nvml, handle: object) -> bool:
    limit = nvml.ask("nvmlDeviceGetTemperatureThreshold", handle, SHUTDOWN)
    now = nvml.ask("nvmlDeviceGetTemperature", handle, TEMPERATURE_GPU)
    return bool(limit) and now is not None and now >= limit
