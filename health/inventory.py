"""Enumerate the node GPU by GPU: a GPU that fails is reported and hides no other GPU."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Container, Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from health import device_nodes
from health.ecc import counts_errors
from health.known_good import with_known_good
from health.nvml import Nvml, NvmlError, bus_id, key_of
from proto.messages import FailedGpu, Gpu, Inventory, Link, LinkLevel, MigInstance


@dataclass(frozen=True, slots=True)
class Found:
    """The inventory, and the handles of its GPUs by UUID."""

    inventory: Inventory
    handles: dict[str, object]

    def with_cdi(self, kinds: tuple[str, ...]) -> "Found":
        """Return this with the CDI *kinds* that have a specification file."""
        return Found(replace(self.inventory, cdi_kinds=kinds), self.handles)

    def without_events(self, uuids: Container[str]) -> "Found":
        """Return this with the GPUs of these *uuids* as GPUs that report no events."""
        gpus = tuple(
            replace(g, events=g.events and g.uuid not in uuids) for g in self.inventory.gpus
        )
        return Found(replace(self.inventory, gpus=gpus), self.handles)

    def with_known_links(self, known: Iterable[Gpu]) -> "Found":
        """Return this with what was good on each GPU before in this boot: links and ECC mode.

        A restart of the monitor would else forget that it is worse now.
        """
        gpus = tuple(with_known_good(gpu, known) for gpu in self.inventory.gpus)
        return Found(replace(self.inventory, gpus=gpus), self.handles)

    def with_unreachable(self, known: Iterable[Gpu], bound: frozenset[str]) -> "Found":
        """Return this with the *known* GPUs that the node still has but the driver does not show.

        A GPU counts as still there if the kernel has it *bound* to the driver. Where the kernel
        shows no bound GPUs, it counts if any GPU failed to enumerate. Without this, a restart would
        drop a lost GPU from the list, and its capacity would disappear silently.
        """
        found = self.inventory
        places = {gpu.pci_bus_id for gpu in found.gpus}
        lost = [g for g in known if g.uuid not in self.handles and g.pci_bus_id not in places]
        lost = [gpu for gpu in lost if gpu.pci_bus_id in bound or (found.failed and not bound)]
        if not lost:
            return self
        gpus = sorted((*found.gpus, *lost), key=lambda gpu: gpu.index)
        return Found(replace(found, gpus=tuple(gpus)), self.handles)

    def places(self) -> dict[str, str]:
        """Return the PCI address of each GPU and MIG instance, by UUID."""
        gpus = self.inventory.gpus
        instances = {mig.uuid: gpu.pci_bus_id for gpu in gpus for mig in gpu.instances}
        return {gpu.uuid: gpu.pci_bus_id for gpu in gpus} | instances

    def uuid_of(self, key: Hashable) -> str | None:
        """Return the UUID of the GPU whose handle has *key*, without a driver call."""
        for uuid, handle in self.handles.items():
            if key_of(handle) == key:
                return uuid
        return None


@dataclass(frozen=True, slots=True)
class SystemRoots:
    """Where the kernel shows devices."""

    sysfs: Path = Path("/sys")
    procfs: Path = Path("/proc")
    dev: Path = Path("/")
    """The folder that contains dev/."""


def take(nvml: Nvml, roots: SystemRoots) -> Found:
    """Enumerate the node."""
    capabilities = device_nodes.capabilities(roots.procfs)
    gpus: list[Gpu] = []
    failed: list[FailedGpu] = []
    handles: dict[str, object] = {}
    for index in range(nvml.gpu_count()):
        try:
            handle = nvml.call("nvmlDeviceGetHandleByIndex", index)
            gpu = _with_capabilities(_gpu(nvml, handle, index, roots.sysfs), capabilities)
        except NvmlError as error:
            failed.append(FailedGpu(index=index, error=str(error), code=error.code))
            continue
        gpus.append(gpu)
        handles[gpu.uuid] = handle
    inventory = Inventory(
        driver_version=nvml.driver_version(),
        gpus=tuple(gpus),
        failed=tuple(failed),
        nodes=device_nodes.existing(roots.dev),
        links=tuple(_links(nvml, gpus, handles)),
    )
    return Found(inventory, handles)


def bound(sysfs: Path) -> frozenset[str]:
    """Return the PCI addresses of the devices that the kernel has bound to the NVIDIA driver."""
    try:
        names = [path.name for path in (sysfs / "bus/pci/drivers/nvidia").iterdir()]
    except OSError:
        return frozenset()
    return frozenset(name for name in names if ":" in name)


def again(nvml: Nvml, before: Found, roots: SystemRoots) -> Found:
    """Enumerate MIG instances again through the handles of *before*.

    It cannot find an added GPU: NVML shows only the GPUs of the time when it was initialised.
    """
    capabilities = device_nodes.capabilities(roots.procfs)
    gpus = []
    for gpu in before.inventory.gpus:
        try:
            gpus.append(_repartitioned(nvml, before.handles[gpu.uuid], gpu, capabilities))
        except (KeyError, NvmlError):
            gpus.append(gpu)  # keep a GPU that fails; the next health check decides about it
    return Found(replace(before.inventory, gpus=tuple(gpus)), before.handles)


def _repartitioned(
    nvml: Nvml, handle: object, gpu: Gpu, capabilities: device_nodes.Capabilities
) -> Gpu:
    enabled = nvml.mig_enabled(handle)
    instances = tuple(_instances(nvml, handle, gpu.memory_mib or 0)) if enabled else ()
    return _with_capabilities(replace(gpu, mig_enabled=enabled, instances=instances), capabilities)


def _gpu(nvml: Nvml, handle: object, index: int, sysfs: Path) -> Gpu:
    pci = bus_id(nvml.call("nvmlDeviceGetPciInfo", handle).busId)
    capability = nvml.ask("nvmlDeviceGetCudaComputeCapability", handle)
    mig_enabled = nvml.mig_enabled(handle)
    memory = nvml.memory_mib(handle)
    return Gpu(
        uuid=nvml.call("nvmlDeviceGetUUID", handle),
        index=index,
        minor=nvml.ask("nvmlDeviceGetMinorNumber", handle),
        pci_bus_id=pci,
        name=nvml.call("nvmlDeviceGetName", handle),
        memory_mib=memory,
        numa_node=numa_node(sysfs, pci),
        compute_capability=None if capability is None else "{}.{}".format(*capability),
        mig_enabled=mig_enabled,
        instances=tuple(_instances(nvml, handle, memory or 0)) if mig_enabled else (),
        events=nvml.reports_xids(handle),
        nvlinks=_nvlinks(nvml, handle),
        ecc=counts_errors(nvml, handle),
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
        )


def _with_capabilities(gpu: Gpu, capabilities: device_nodes.Capabilities) -> Gpu:
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


def numa_node(sysfs: Path, pci: str) -> int | None:
    """Return the NUMA node of a PCI device; None if it has none (the kernel writes -1)."""
    try:
        node = int((sysfs / "bus/pci/devices" / pci / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 else None


def _links(nvml: Nvml, gpus: list[Gpu], handles: dict[str, object]) -> Iterator[Link]:
    peers = {gpu.uuid: _peers(nvml, handles[gpu.uuid]) for gpu in gpus}
    for first, second in itertools.combinations(gpus, 2):
        level = _level(nvml, handles[first.uuid], handles[second.uuid])
        # Two GPUs on an NVSwitch fabric share as many links as the GPU with fewer links has.
        nvlinks = peers[first.uuid][second.pci_bus_id] + min(
            peers[first.uuid]["switch"], peers[second.uuid]["switch"]
        )
        if nvlinks or level is not LinkLevel.SYS:
            yield Link(first.uuid, second.uuid, level, nvlinks)


def _nvlinks(nvml: Nvml, handle: object) -> int:
    try:
        return nvml.nvlinks_up(handle) or 0
    except NvmlError:
        return 0  # links that cannot be counted now cannot be reported as down later


def _peers(nvml: Nvml, handle: object) -> Counter[str]:
    try:
        return Counter(nvml.nvlink_peers(handle))
    except NvmlError:
        return Counter()  # a GPU lost in the meantime must not fail the others' topology


def _level(nvml: Nvml, first: object, second: object) -> LinkLevel:
    try:
        return nvml.level(first, second)
    except NvmlError:
        return LinkLevel.SYS
