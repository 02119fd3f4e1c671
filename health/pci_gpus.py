"""The NVIDIA GPUs on the PCI bus, as the kernel shows them, also without a driver.

Only sysfs is read, where the kernel keeps these values: no device is touched, so nothing can hang.
Source of the numbers: pci.ids, and linux/pci_ids.h.
"""

from collections.abc import Iterable
from pathlib import Path

import msgspec

from proto.driver import DriverState

VENDOR = 0x10DE
"""NVIDIA."""

DISPLAY = 0x03
"""The base class of GPUs: 0x0300 with a display, 0x0302 without; others are parts of a card."""


class PciGpu(msgspec.Struct, frozen=True):
    """A GPU on the bus."""

    address: str
    driver: str = ""
    """The kernel's driver that it is bound to; empty: none."""

    @property
    def for_guests(self) -> bool:
        """Whether it is reserved for virtual machines: `vfio-pci`, `nvgrace_gpu_vfio_pci`."""
        return "vfio" in self.driver


def is_gpu(vendor: str, device_class: str) -> bool:
    """Return whether the files `vendor` and `class` of a device are those of an NVIDIA GPU."""
    try:
        return int(vendor, 16) == VENDOR and int(device_class, 16) >> 16 == DISPLAY
    except ValueError:
        return False


def gpus(sysfs: Path) -> tuple[PciGpu, ...] | None:
    """Return the NVIDIA GPUs by their address; None: the kernel does not show its buses here."""
    if not (sysfs / "bus").is_dir():
        return None
    try:
        found = sorted((sysfs / "bus/pci/devices").iterdir())
    except FileNotFoundError:
        return ()  # a machine without this bus
    except OSError:
        return None
    return tuple(gpu for gpu in map(_gpu, found) if gpu)


def _gpu(device: Path) -> PciGpu | None:
    if (device / "physfn").exists():
        return None  # a part of a GPU for a virtual machine (SR-IOV)
    try:
        if not is_gpu((device / "vendor").read_text(), (device / "class").read_text()):
            return None
    except (OSError, UnicodeDecodeError):
        return None  # it was removed at this moment, or is no device
    driver = device / "driver"
    return PciGpu(device.name, driver.resolve().name if driver.is_symlink() else "")


def off_the_bus(sysfs: Path, procfs: Path) -> bool:
    """Return whether the node may have a GPU that is not on the bus: WSL2 or a Tegra."""
    family, version = _text(sysfs / "devices/soc0/family"), _text(procfs / "version")
    return family.startswith("tegra") or "microsoft" in version


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").casefold()
    except OSError:
        return ""


def judge(found: Iterable[PciGpu] | None, *, elsewhere: bool) -> DriverState:
    """Return the state of a node on which no driver answers.

    *found* are the GPUs on the bus; None: unknown. *elsewhere* tells of GPUs that are not on it.
    What is unknown counts as a GPU, so that no node hides its GPUs.
    """
    if found is None or elsewhere:
        return DriverState.MISSING
    gpus = tuple(found)
    if not gpus:
        return DriverState.NO_GPU
    if all(gpu.for_guests for gpu in gpus):
        return DriverState.PASSTHROUGH
    return DriverState.MISSING


def without_driver(sysfs: Path, procfs: Path) -> DriverState:
    """Return the state of this node, on which no driver answers."""
    return judge(gpus(sysfs), elsewhere=off_the_bus(sysfs, procfs))
