"""What only labels tell about a GPU: a job of its lane, in which a failed query costs one fact."""

from pathlib import Path
from typing import Any

from msgspec.structs import fields, replace

from health import fabric, vgpu
from health.nvml import Nvml, NvmlError
from health.readiness_calls import VGPU
from proto.facts import Fabric, GpuFacts, HostDriver, MigAttributes
from proto.messages import Gpu


def find_facts(nvml: Nvml, handle: object, gpu: Gpu, sysfs: Path) -> GpuFacts:
    """Ask a GPU, and the kernel about it, for what only labels tell."""
    device = sysfs / "bus/pci/devices" / gpu.pci_bus_id
    host = _host_driver(nvml, device)
    return GpuFacts(
        pci_class=_pci_class(device),
        mig_capable=_mig_capable(nvml, handle),
        fabric=_fabric(nvml, handle),
        virtual=_virtual(nvml, handle) if host is None else bool(host),
        host_driver=host if isinstance(host, HostDriver) else None,
    )


def with_facts(gpu: Gpu, newer: GpuFacts) -> Gpu:
    """Return *gpu* with its *newer* facts, and with those that it had where a query failed now."""
    known = {
        field.name: value
        for field in fields(newer)
        if (value := getattr(newer, field.name)) is not None
    }
    return replace(gpu, facts=replace(gpu.facts, **known))


def attributes_of(raw: Any) -> MigAttributes | None:
    """Return the attributes of a MIG instance as NVML reports them."""
    if raw is None:
        return None
    return MigAttributes(
        multiprocessors=int(raw.multiprocessorCount),
        gi_slices=int(raw.gpuInstanceSliceCount),
        ci_slices=int(raw.computeInstanceSliceCount),
        copy_engines=int(raw.sharedCopyEngineCount),
        decoders=int(raw.sharedDecoderCount),
        encoders=int(raw.sharedEncoderCount),
        jpeg_engines=int(raw.sharedJpegCount),
        ofa_engines=int(raw.sharedOfaCount),
    )


def _mig_capable(nvml: Nvml, handle: object) -> bool | None:
    try:
        return nvml.ask("nvmlDeviceGetMigMode", handle) is not None
    except NvmlError:
        return None  # the next health check decides about the GPU


def _virtual(nvml: Nvml, handle: object) -> bool | None:
    """Return what the driver says; it does not name the host's driver."""
    try:
        mode = nvml.ask("nvmlDeviceGetVirtualizationMode", handle)
    except NvmlError:
        return None
    return None if mode is None else mode == VGPU


def _fabric(nvml: Nvml, handle: object) -> Fabric | None:
    try:
        return fabric.place(fabric.ask(nvml, handle))
    except NvmlError:
        return None


def _pci_class(device: Path) -> int | None:
    try:
        return int((device / "class").read_text(), 16)
    except (OSError, ValueError):
        return None


def _host_driver(nvml: Nvml, device: Path) -> HostDriver | bool | None:
    # Reading it asks the device, and wakes it up: a call like one of the driver's.
    try:
        with nvml.doing("read PCI configuration space"), (device / "config").open("rb") as file:
            return vgpu.host_driver(file.read(vgpu.SPACE))
    except OSError:
        return None
