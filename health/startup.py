"""The first look at the node: initialise the driver's library, find what is there, or say why not.

A process does this once: initialising the library again leaks, and shows no GPU that came since.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path

from health import cdi, inventory
from health.ledger import Ledger
from health.looks import DENIED
from health.nvml import Code, Nvml, NvmlError, key_of
from health.running_call import RunningCall
from proto.control import NotReady
from proto.messages import FailedGpu, ReasonKind
from proto.monitor import CdiSettings, MonitorSettings

ADVICE: dict[int | None, str] = {
    Code.LIBRARY_NOT_FOUND: "install the NVIDIA driver, or mount it at --driver-root-ctr-path",
    Code.DRIVER_NOT_LOADED: "load the kernel module nvidia on the node",
    Code.VERSION_MISMATCH: "libraries and kernel module differ in version; reboot the node",
    Code.NO_PERMISSION: "allow access to /dev/nvidia*; if access was lost, restart the container",
    Code.UNKNOWN: "if other programs can use the GPUs, restart the container: it lost access",
}


class NotReadyError(Exception):
    """The driver cannot be used now."""

    def __init__(self, report: NotReady) -> None:
        super().__init__(report.reason)
        self.report = report


@dataclass(frozen=True, slots=True)
class Start:
    """What a monitor begins with."""

    nvml: Nvml
    found: inventory.Found
    roots: inventory.SystemRoots
    bound: frozenset[str]
    """The PCI places of the driver's devices, as they were just before they were enumerated."""


def start(settings: MonitorSettings, ledger: Ledger) -> Start:
    """Find what is on the node; NotReadyError where the driver does not let us."""
    roots = inventory.SystemRoots(*map(Path, (settings.sysfs, settings.procfs, settings.dev_root)))
    bound = inventory.bound(roots.sysfs)
    try:
        binding = importlib.import_module(settings.binding).load(settings.binding_argument)
        nvml = Nvml(binding, RunningCall(settings.paths.trace))
        nvml.start()
        found = inventory.take(nvml, roots)
    except (NvmlError, OSError) as error:
        raise _not_ready(str(error), getattr(error, "code", None)) from error
    if not found.handles and found.inventory.failed:
        _require_access(found.inventory.failed)
    found = found.with_unreachable(ledger.gpus(), bound)
    if settings.cdi:
        # Before anybody hears of a GPU, so that no pod is given a name that stands for nothing
        # yet; and before a thread runs, as the toolkit's processes are forked.
        found = found.with_cdi(_write_cdi(settings.cdi))
    nvml.names = {key_of(handle): uuid for uuid, handle in found.handles.items()}
    return Start(nvml, found, roots, bound)


def _require_access(failed: tuple[FailedGpu, ...]) -> None:
    """Take it for our own access if every GPU refuses as it does to a process without any."""
    if all(one.code in DENIED for one in failed):
        raise _not_ready(failed[0].error, failed[0].code)


def _not_ready(error: str, code: int | None) -> NotReadyError:
    advice = ADVICE.get(code)
    kind = ReasonKind.NO_ACCESS if code in DENIED else ReasonKind.NO_DRIVER
    return NotReadyError(NotReady(f"{error}; {advice}" if advice else error, kind))


def _write_cdi(settings: CdiSettings) -> tuple[str, ...]:
    """Have the specifications written; return the kinds of which there is one, old or new."""
    cdi.write_all(settings)
    return tuple(spec.kind for spec in cdi.specs(settings) if spec.path.exists())
