"""What a lane asks the driver about its GPU: one job a function, each with its result."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path

import msgspec
from msgspec.structs import replace

from health import device_nodes, numa, nvlink_switches, unified_memory
from health.ecc import counts_errors
from health.label_facts import attributes_of
from health.nvml import Nvml, NvmlError
from health.pci import bus_id
from health.platform import NOTHING, Signs, is_integrated
from proto.messages import FailedGpu, Gpu, LinkLevel, MigInstance
from proto.monitor import MonitorSettings


class SystemRoots(msgspec.Struct, frozen=True):
    """Where the kernel shows devices, and what is known of the node before its GPUs."""

    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")
    dev: tuple[Path, ...] = (Path("/"),)
    """The first of these folders that contains dev/ has the device nodes, else the last one."""
    unified_mib: int | None = None
    """What a GPU without memory of its own has, in MiB; None: the memory of the machine."""
    signs: Signs = NOTHING


def roots(settings: MonitorSettings) -> SystemRoots:
    """Return the roots that *settings* name."""
    dev = tuple(map(Path, settings.dev_roots))
    return SystemRoots(Path(settings.sysfs), Path(settings.procfs), dev, settings.unified_mib)


class Enumerated(msgspec.Struct, frozen=True):
    """A GPU that the driver describes, without its NVLinks."""

    handle: object
    gpu: Gpu


class NotEnumerated(msgspec.Struct, frozen=True):
    """A GPU that could not be enumerated."""

    failed: FailedGpu
    reached: bool
    """Whether the driver gave a handle, so that a later query failed."""


def enumerate_gpu(nvml: Nvml, index: int, roots: SystemRoots) -> Enumerated | NotEnumerated:
    """Enumerate the GPU at *index*."""
    handle = None
    try:
        handle = nvml.call("nvmlDeviceGetHandleByIndex", index)
        gpu = _gpu(nvml, handle, index, roots)
        gpu = replace(gpu, integrated=is_integrated(roots.signs, gpu.name, gpu.pci_bus_id))
    except NvmlError as error:
        failed = FailedGpu(index=index, error=str(error), code=error.code)
        return NotEnumerated(failed, reached=handle is not None)
    return Enumerated(handle, _with_capabilities(nvml, gpu, roots))


class Rescanned(msgspec.Struct, frozen=True):
    """The MIG instances of a GPU now."""

    mig_enabled: bool
    instances: tuple[MigInstance, ...]

    def of(self, gpu: Gpu) -> Gpu:
        """Return *gpu* with these instances."""
        return replace(gpu, mig_enabled=self.mig_enabled, instances=self.instances)


def unchanged(gpu: Gpu) -> Rescanned:
    """Return the MIG instances that *gpu* had."""
    return Rescanned(gpu.mig_enabled, gpu.instances)


def rescan(nvml: Nvml, handle: object, gpu: Gpu, roots: SystemRoots) -> Rescanned:
    """Enumerate the MIG instances of a GPU again; if that fails, return those that it had."""
    try:
        enabled = nvml.mig_enabled(handle)
        own = 0 if gpu.unified_memory else gpu.memory_mib or 0
        instances = tuple(_instances(nvml, handle, own)) if enabled else ()
    except NvmlError:  # the next health check decides about the GPU
        return unchanged(gpu)
    now = replace(gpu, mig_enabled=enabled, instances=instances)
    now = _with_capabilities(nvml, now, roots)
    return Rescanned(now.mig_enabled, now.instances)


class Details(msgspec.Struct, frozen=True):
    """What a GPU can be advertised without."""

    peers: Counter[str]
    """Active NVLinks to each peer: a PCI bus ID, "switch", or "" if the peer is unknown."""
    ecc: bool | None
    """Whether the GPU counts memory errors; False: ECC mode is off; None: not known."""
    switches: tuple[str, ...] = ()
    """PCI addresses of the NVSwitches at its NVLinks, as far as the driver tells them."""


UNKNOWN = Details(Counter(), None)
"""What is published of a GPU that told nothing."""


def find_details(nvml: Nvml, handle: object) -> Details:
    """Count the active NVLinks of a GPU, and find out whether it counts memory errors."""
    try:
        peers = Counter(nvml.nvlink_peers(handle))
    except NvmlError:
        peers = Counter()  # links that cannot be counted cannot be told as down later
    switches = nvlink_switches.find(nvml, handle) if peers["switch"] else ()
    return Details(peers, counts_errors(nvml, handle), switches)


Levels = Mapping[tuple[str, str], LinkLevel]
"""The PCI level of pairs of GPUs, by their UUIDs."""


class Levelled(msgspec.Struct, frozen=True):
    """How GPUs are connected by PCI."""

    levels: Levels


def find_levels(nvml: Nvml, handles: Mapping[str, object]) -> Levelled:
    """Find the PCI level of each pair of GPUs, given as handles by UUID."""
    return Levelled(
        {
            (first, second): _level(nvml, handles[first], handles[second])
            for first, second in combinations(handles, 2)
        }
    )


def _level(nvml: Nvml, first: object, second: object) -> LinkLevel:
    try:
        return nvml.level(first, second)
    except NvmlError:
        return LinkLevel.SYS  # a GPU lost in the meantime must not fail the others' topology


def _gpu(nvml: Nvml, handle: object, index: int, roots: SystemRoots) -> Gpu:
    found = nvml.ask("nvmlDeviceGetPciInfo", handle)
    pci = "" if found is None else bus_id(found.busId)
    capability = nvml.ask("nvmlDeviceGetCudaComputeCapability", handle)
    mig_enabled = nvml.mig_enabled(handle)
    memory = nvml.memory_mib(handle)
    return Gpu(
        uuid=nvml.call("nvmlDeviceGetUUID", handle),
        index=index,
        minor=nvml.ask("nvmlDeviceGetMinorNumber", handle),
        pci_bus_id=pci,
        name=nvml.call("nvmlDeviceGetName", handle),
        memory_mib=memory or roots.unified_mib or unified_memory.mib_of_machine(roots.procfs),
        unified_memory=memory is None,
        numa_node=numa.of_device(roots.sysfs, pci),
        compute_capability=None if capability is None else "{}.{}".format(*capability),
        mig_enabled=mig_enabled,
        instances=tuple(_instances(nvml, handle, memory or 0)) if mig_enabled else (),
        events=nvml.reports_xids(handle),
    )


def _instances(nvml: Nvml, gpu: object, gpu_memory: int) -> Iterator[MigInstance]:
    for place in range(nvml.ask("nvmlDeviceGetMaxMigDeviceCount", gpu) or 0):
        handle = nvml.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu, place)
        if handle is None:
            continue  # instances can be anywhere, so go on after a gap
        attributes = nvml.ask("nvmlDeviceGetAttributes", handle)
        profile = profile_in(nvml.ask("nvmlDeviceGetName", handle) or "")
        if not profile and attributes is not None:
            profile = profile_of(
                attributes.gpuInstanceSliceCount,
                attributes.computeInstanceSliceCount,
                attributes.memorySizeMB,
                gpu_memory,
            )
        yield MigInstance(
            uuid=nvml.call("nvmlDeviceGetUUID", handle),
            place=place,
            gi=nvml.call("nvmlDeviceGetGpuInstanceId", handle),
            ci=nvml.call("nvmlDeviceGetComputeInstanceId", handle),
            profile=profile,
            memory_mib=None if attributes is None else int(attributes.memorySizeMB),
            attributes=attributes_of(attributes),
        )


def _with_capabilities(nvml: Nvml, gpu: Gpu, roots: SystemRoots) -> Gpu:
    with nvml.doing("read mig-minors"):
        capabilities = device_nodes.capabilities(roots.procfs)

    def numbers(instance: MigInstance) -> tuple[int, ...]:
        keys = ((gpu.minor, instance.gi, None), (gpu.minor, instance.gi, instance.ci))
        return tuple(capabilities[key] for key in keys if key in capabilities)

    return replace(gpu, instances=tuple(replace(i, capabilities=numbers(i)) for i in gpu.instances))


def profile_in(name: str) -> str:
    """Return the MIG profile at the end of a MIG device's *name*; empty: the name has none."""
    match = re.search(r" MIG (\d\S*)$", name)
    return match[1] if match else ""


def profile_of(gi_slices: int, ci_slices: int, memory_mib: int, gpu_memory_mib: int) -> str:
    """Return the MIG profile for a size; memory counts in eighths of the GPU's memory."""
    gpu_gb = math.ceil(gpu_memory_mib / 1024)
    eighths = math.ceil(memory_mib / gpu_memory_mib * 8) if gpu_memory_mib else 8
    compute = "" if ci_slices == gi_slices else f"{ci_slices}c."
    return f"{compute}{gi_slices}g.{(eighths * gpu_gb + 4) // 8}gb"
