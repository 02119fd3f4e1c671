"""Start the monitor: initialise NVML and enumerate the node, or report why that failed.

A process does this once: initialising NVML again leaks memory and shows no added GPUs.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path

from health import cdi, inventory, versions
from health.ledger import Ledger
from health.looks import DENIED
from health.nvml import Code, Nvml, NvmlError, key_of
from health.running_call import RunningCall
from proto.control import NotReady
from proto.messages import FailedGpu
from proto.monitor import CdiSettings, MonitorSettings
from proto.reasons import ReasonKind

ADVICE: dict[int | None, str] = {
    Code.LIBRARY_NOT_FOUND: "install the NVIDIA driver, or mount it at --driver-root-ctr-path",
    Code.DRIVER_NOT_LOADED: "load the kernel module nvidia on the node",
    Code.VERSION_MISMATCH: "libraries and kernel module differ in version; reboot the node",
    Code.NO_PERMISSION: "allow access to /dev/nvidia*",
    Code.UNKNOWN: "if other programs can use the GPUs, this plugin has lost access to them",
}

OLD_LIBRARY = "the library {} is older than the kernel module {}: a new container gets the new one"


class NotReadyError(Exception):
    """The driver cannot be used now; *report* says why."""

    def __init__(self, report: NotReady) -> None:
        super().__init__(report.reason)
        self.report = report


@dataclass(frozen=True, slots=True)
class Start:
    """The result of a successful start."""

    nvml: Nvml
    found: inventory.Found
    roots: inventory.SystemRoots
    bound: frozenset[str]
    """The PCI addresses bound to the driver, read just before the enumeration."""


def start(settings: MonitorSettings, ledger: Ledger) -> Start:
    """Enumerate the node; raise NotReadyError if the driver cannot be used."""
    roots = inventory.SystemRoots(*map(Path, (settings.sysfs, settings.procfs, settings.dev_root)))
    bound = inventory.bound(roots.sysfs)
    try:
        binding = importlib.import_module(settings.binding).load(settings.binding_argument)
        nvml = Nvml(binding, RunningCall(settings.paths.trace))
        nvml.start()
        found = inventory.take(nvml, roots)
    except (NvmlError, OSError) as error:
        raise _not_ready(str(error), getattr(error, "code", None), roots.procfs) from error
    if not found.handles and found.inventory.failed:
        _require_access(found.inventory.failed, roots.procfs)
    found = found.with_known_links(ledger.gpus()).with_unreachable(ledger.gpus(), bound)
    if settings.cdi:
        # Before GPUs are published, so that no pod gets a CDI name without a specification.
        # And before a thread starts, because nvidia-ctk is forked.
        found = found.with_cdi(_write_cdi(settings.cdi))
    nvml.names = {key_of(handle): uuid for uuid, handle in found.handles.items()}
    return Start(nvml, found, roots, bound)


def _require_access(failed: tuple[FailedGpu, ...], procfs: Path) -> None:
    """Raise NotReadyError if every GPU refuses access: then this process lacks the access."""
    if all(gpu.code in DENIED for gpu in failed):
        raise _not_ready(failed[0].error, failed[0].code, procfs)


def _not_ready(error: str, code: int | None, procfs: Path) -> NotReadyError:
    """Return the error with advice, and with the word whether only a new container can help."""
    advice, needs_restart = ADVICE.get(code), code in DENIED
    kind = ReasonKind.NO_ACCESS if code in DENIED else ReasonKind.NO_DRIVER
    if code == Code.VERSION_MISMATCH and (seen := versions.read(procfs)).library_is_older:
        advice, needs_restart = OLD_LIBRARY.format(seen.library, seen.module), True
    reason = f"{error}; {advice}" if advice else error
    return NotReadyError(NotReady(reason, kind, needs_restart))


def _write_cdi(settings: CdiSettings) -> tuple[str, ...]:
    """Write the specifications; return the kinds that have a file, old or new."""
    cdi.write_all(settings)
    return tuple(spec.kind for spec in cdi.specs(settings) if spec.path.exists())
