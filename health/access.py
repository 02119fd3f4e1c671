"""Say why the driver cannot be used, and what to do about it."""

from pathlib import Path

import msgspec

from health import pci_gpus, versions
from health.looks import DENIED
from health.nvml import Code
from health.opening import Refused
from proto.control import NotReady
from proto.driver import NOTHING_TO_SERVE, DriverState
from proto.messages import FailedGpu
from proto.monitor import MonitorSettings
from proto.platform import PlatformKind
from proto.reasons import ReasonKind
from proto.texts import shortened

ADVICE: dict[int | None, str] = {
    Code.LIBRARY_NOT_FOUND: "install the NVIDIA driver, or mount it at --driver-root-ctr-path",
    Code.DRIVER_NOT_LOADED: "load the kernel module nvidia on the node",
    Code.VERSION_MISMATCH: "libraries and kernel module differ in version; reboot the node",
    Code.NO_PERMISSION: "allow access to /dev/nvidia*",
    Code.OPERATING_SYSTEM: "allow access to /dev/nvidiactl",
    Code.UNKNOWN: "if other programs can use the GPUs, this plugin has lost access to them",
}

ABSENT = frozenset({Code.LIBRARY_NOT_FOUND, Code.DRIVER_NOT_LOADED})
"""Answers of a node without a driver, or without a GPU."""

OFF_THE_BUS = (PlatformKind.WSL, PlatformKind.TEGRA, PlatformKind.TEGRA_DISCRETE)
"""Platforms with GPUs that are not on the PCI bus."""

LATE: dict[int | None, str] = {
    Code.DRIVER_NOT_LOADED: "a new container gets /dev/nvidia*, if the node has them by then",
    Code.LIBRARY_NOT_FOUND: "a new container gets the library, if NVIDIA's runtime starts it; "
    "or mount the driver at --driver-root-ctr-path",
}
"""What to do about what is missing here only: the kernel module is loaded."""

OF_VERSIONS = frozenset({Code.VERSION_MISMATCH, *LATE})
"""Answers that mean something else if the kernel module is loaded, or newer than the library."""

OLD_LIBRARY = "the library {} is older than the kernel module {}: a new container gets the new one"


def refusal(error: str, code: int | None, procfs: Path) -> NotReady:
    """Return the report of a driver that answers with *error*; *code* is NVML's, if it has one.

    It has advice, and the word whether only a new container can help.
    """
    advice, needs_restart = ADVICE.get(code), code in DENIED
    kind = ReasonKind.NO_ACCESS if code in DENIED else ReasonKind.NO_DRIVER
    # Not for other answers: the monitor's loop asks, and a call that hangs can block these files.
    seen = versions.read(procfs) if code in OF_VERSIONS else versions.Versions("", "")
    if code == Code.VERSION_MISMATCH and seen.library_is_older:
        advice, needs_restart = OLD_LIBRARY.format(seen.library, seen.module), True
    elif code in LATE and seen.module:
        advice, needs_restart = f"the kernel module is loaded, so {LATE[code]}", True
    reason = shortened(f"{error}; {advice}" if advice else error)
    return NotReady(reason, kind, needs_restart)


def refused(found: Refused, settings: MonitorSettings, *, had_gpus: bool) -> NotReady:
    """Return the report of a driver that cannot be opened.

    It tells a node without a GPU from one without a driver. *had_gpus*: the node had GPUs earlier
    in this boot, so one that is not on the bus any more is lost.
    """
    sysfs, procfs = Path(settings.sysfs), Path(settings.procfs)
    report = refusal(found.error, found.code, procfs)
    report = msgspec.structs.replace(
        report,
        platform=found.platform,
        came_late=found.came_late,
    )
    if found.code not in ABSENT:
        return report
    elsewhere = had_gpus or found.platform.kind in OFF_THE_BUS
    state = DriverState.MISSING if elsewhere else pci_gpus.without_driver(sysfs, procfs)
    if state is DriverState.MISSING and found.code == Code.DRIVER_NOT_LOADED:
        # What is missing is not the driver, but its device nodes here.
        state = DriverState.UNUSABLE if report.needs_restart else state
    reason = NOTHING_TO_SERVE.get(state)
    told = f"{reason}; {found.error}" if reason else report.reason
    return msgspec.structs.replace(report, reason=shortened(told), driver=state)


def no_access(failed: tuple[FailedGpu, ...], procfs: Path) -> NotReady | None:
    """Return the report if every GPU *failed* because this process has no access to it."""
    if failed and all(gpu.code in DENIED for gpu in failed):
        return refusal(failed[0].error, failed[0].code, procfs)
    return None


def hang(call: str) -> NotReady:
    """Return the report of a driver that cannot be opened, because *call* does not return."""
    why = f"the driver hangs in {call}; reboot the node"
    return NotReady(why, ReasonKind.DRIVER_HANG, detail=call)
