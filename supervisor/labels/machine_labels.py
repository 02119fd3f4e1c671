"""The labels that are about the whole machine: its driver, its kind, its place in a fabric."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proto.advertising import Advertising, SharingStrategy
from proto.messages import Gpu, Inventory
from supervisor.labels import legal

MODES = {0x030200: "compute", 0x030000: "graphics"}
"""What a GPU is for, by its PCI class: a 3D controller, or a VGA controller with outputs."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What the labels say that neither the driver nor the configuration knows."""

    machine: str = ""
    """The kind of machine, such as its DMI product name; empty: not known."""
    timestamp: int | None = None
    """When the settings took effect, as Unix time; None: no label tells it."""


def of_machine(facts: MachineFacts, inventory: Inventory) -> Iterator[tuple[str, str]]:
    """Yield the labels of the machine and its driver, by key without the domain."""
    yield "gpu.machine", legal.value(facts.machine)
    if inventory.driver_version:
        yield from _of_driver(inventory.driver_version)
    if inventory.cuda_version:
        major, minor = inventory.cuda_version // 1000, inventory.cuda_version % 1000 // 10
        for prefix in ("cuda.runtime", "cuda.runtime-version"):
            yield f"{prefix}.major", str(major)
            yield f"{prefix}.minor", str(minor)
        yield "cuda.runtime-version.full", f"{major}.{minor}"


def _of_driver(version: str) -> Iterator[tuple[str, str]]:
    # A third dot would belong to the last part: X.Y.Z is what NVIDIA's drivers have.
    parts = version.split(".", 2)
    major, minor, revision = (legal.part(part) for part in (*parts, "", "")[:3])
    for prefix, last in (("cuda.driver", "rev"), ("cuda.driver-version", "revision")):
        yield f"{prefix}.major", major
        yield f"{prefix}.minor", minor
        yield f"{prefix}.{last}", revision
    yield "cuda.driver-version.full", legal.value(version)


def of_gpus(gpus: Sequence[Gpu], advertising: Advertising) -> Iterator[tuple[str, str]]:
    """Yield what is true of all *gpus* together; what a GPU does not tell, the others decide."""
    modes = {MODES.get(g.facts.pci_class, "") for g in gpus if g.facts.pci_class is not None}
    yield "gpu.mode", (modes.pop() if len(modes) == 1 else "") or legal.UNKNOWN
    capable = {gpu.facts.mig_capable for gpu in gpus} - {None}
    if capable:
        yield "mig.capable", _bool(yes=True in capable)
    yield "mps.capable", _bool(yes=_uses_mps(gpus, advertising))
    fabrics = {fabric for gpu in gpus if (fabric := gpu.facts.fabric) and fabric.cluster}
    if len(fabrics) == 1:
        fabric = fabrics.pop()
        yield "gpu.clique", legal.value(f"{fabric.cluster}.{fabric.clique}")


def _uses_mps(gpus: Sequence[Gpu], advertising: Advertising) -> bool:
    in_mig_mode = {gpu.uuid for gpu in gpus if gpu.mig_enabled}
    mps = (r for r in advertising.resources if r.strategy is SharingStrategy.MPS)
    return any(uuid not in in_mig_mode for resource in mps for uuid in resource.devices)


def of_vgpu(gpus: Sequence[Gpu], inventory: Inventory) -> Iterator[tuple[str, str]]:
    """Yield whether the node has virtual GPUs, and which driver their host has."""
    known = {gpu.facts.virtual for gpu in gpus} - {None}
    if known or (inventory.driver_version and not gpus and not inventory.failed):
        yield "vgpu.present", _bool(yes=True in known)
    hosts = (gpu.facts.host_driver for gpu in gpus if gpu.facts.host_driver)
    if host := next(hosts, None):
        if host.version:
            yield "vgpu.host-driver-version", legal.value(host.version)
        if host.branch:
            yield "vgpu.host-driver-branch", legal.value(host.branch)


def _bool(*, yes: bool) -> str:
    return "true" if yes else "false"
