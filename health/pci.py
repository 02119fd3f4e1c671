"""GPUs on the PCI bus: how their addresses are written, and which driver the kernel gives them."""

from collections.abc import Iterable
from pathlib import Path

from health import pci_gpus
from proto.reasons import Reason, ReasonKind

PASSTHROUGH = ("vfio-pci", "nvgrace_gpu_vfio_pci")
"""Drivers that pass a GPU to a virtual machine."""


def bus_id(text: str | bytes) -> str:
    """Return a PCI bus ID as the kernel writes it; empty: it is none.

    NVML writes capitals and an 8-digit domain, and of a GPU that is on no bus perhaps nothing.
    """
    name = text.decode(errors="replace") if isinstance(text, bytes) else text
    domain, _, rest = name.lower().partition(":")
    try:
        return f"{int(domain, 16):04x}:{rest}"
    except ValueError:
        return ""


def bound(sysfs: Path, driver: str = "nvidia") -> frozenset[str]:
    """Return the PCI addresses of the devices that the kernel has bound to *driver*."""
    try:
        names = [path.name for path in (sysfs / "bus/pci/drivers" / driver).iterdir()]
    except OSError:
        return frozenset()
    return frozenset(name for name in names if ":" in name)


def passed(sysfs: Path) -> dict[str, str]:
    """Return the GPUs that are given to virtual machines: the driver by PCI address."""
    found = ((address, driver) for driver in PASSTHROUGH for address in bound(sysfs, driver))
    gpus = {gpu.address for gpu in pci_gpus.gpus(sysfs) or ()}
    return {address: driver for address, driver in sorted(found) if address in gpus}


def on_bus(sysfs: Path) -> frozenset[str]:
    """Return the PCI addresses of NVIDIA's GPUs, but for those that another driver has.

    If none has it, NVIDIA's has refused it, or was never asked.
    """
    found = pci_gpus.gpus(sysfs) or ()
    return frozenset(g.address for g in found if g.driver in {"", "nvidia"}) - passed(sysfs).keys()


def passthrough(sysfs: Path, address: str) -> Reason | None:
    """Return why the driver cannot reach the device at *address*, if it is given away."""
    drivers = sysfs / "bus/pci/drivers"
    given = (name for name in PASSTHROUGH if address and (drivers / name / address).exists())
    driver = next(given, "")
    return reason(driver) if driver else None


def reason(driver: str) -> Reason:
    """Return the reason of a GPU that is given to *driver*."""
    return Reason(ReasonKind.PASSTHROUGH, driver)


def is_given_away(reasons: Iterable[Reason]) -> bool:
    """Return whether these are the *reasons* of a GPU that is given to another driver."""
    return any(why.kind is ReasonKind.PASSTHROUGH for why in reasons)
