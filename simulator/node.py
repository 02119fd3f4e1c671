"""The simulated node: the file that users write, and the live node that drills change.

The live node is one JSON file in the runtime folder, so that a fault outlives the processes of the
service, as a hardware fault does.
"""

import enum
import itertools
import re
import uuid
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from msgspec.structs import replace

from proto.messages import LinkLevel
from simulator.usage import Use

UUID = re.compile(r"(GPU-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
FABRIC_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PCI_BUS_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
PROFILE = re.compile(r"(?:(\d)c\.)?(\d)g\.(\d+)gb(?:[+-][a-z]+(?:\.[a-z]+)*)*")
"""A MIG profile as NVML names it, such as 1g.10gb, 1g.10gb+me and 1c.3g.40gb."""

FIRST_GI = 7
"""GI of the instance at place 0; real drivers number small instances from 7 too."""

NVLINKS = 18
"""NVLinks that a GPU has, up or not."""

RESET, REBOOT = 1, 2
"""NVML's recovery actions "reset the GPU" and "reboot the node"."""

REBOOTS = frozenset({79, 151})
"""Xids after which a driver asks for a reboot, as NVIDIA's catalogue does."""

APPLICATIONS = frozenset({8, 11, 13, 31, 32, 43, 44, 45, 63, 68, 69, 92, 94, 147, 148})
"""Xids after which a driver does not ask for a recovery action."""

MISSING = "gpu-missing"

GREY = (
    "pcie",
    "slowdown",
    "clocks",
    "ecc-corrected",
    "spare-rows",
    "persistence",
    "fabric",
    MISSING,
)
"""The grey failures that a GPU can have; a missing one is on the PCI bus, but not in NVML."""

MIG_CAPABLE = frozenset({"8.0", "9.0", "10.0", "10.3", "12.0"})
"""Compute capabilities of GPUs that have MIG mode, such as A100, H100, B200, B300."""

MOST_TEXT = 255
"""Characters of a text of the driver; NVML allows 96 in the name of a GPU."""

MOST_NVLINKS = 1000
"""NVLinks between two GPUs."""

MOST_DEVICES = 1000
"""GPUs and MIG instances of a node; the largest known has 16 GPUs with 7 instances each."""

OPTIONAL = "optional"
"""Stands for each function about a GPU, except those that it cannot be enumerated without."""

BY_INDEX, BY_UUID = "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID"

NEEDED = frozenset(
    {BY_INDEX, BY_UUID, "nvmlDeviceGetUUID", "nvmlDeviceGetName", "nvmlDeviceGetPciInfo"}
)
"""What each driver supports on each GPU, or nearly."""

EVENTS_KEPT = 256
"""Events kept for a monitor that does not wait at the moment; a driver keeps no more."""


class NodeError(Exception):
    """The node or a change to it is invalid; the message is one line."""


class SimulatedFabric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A GPU's place in an NVLink fabric over several nodes."""

    cluster: str
    """UUID of the cluster."""
    clique: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)] = 0


class SimulatedHost(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The driver of the host of a virtual GPU; empty: the GPU does not tell."""

    driver_version: Annotated[str, msgspec.Meta(max_length=10)] = ""
    driver_branch: Annotated[str, msgspec.Meta(max_length=10)] = ""


class SimulatedPlatform(enum.StrEnum):
    """What kind of node the files of the simulated one show."""

    NVML = "nvml"
    WSL = "wsl"
    TEGRA = "tegra"


class SimulatedGpu(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A GPU in the node file."""

    uuid: str = ""
    name: Annotated[str, msgspec.Meta(max_length=MOST_TEXT)] = "NVIDIA H100 80GB HBM3"
    memory_mib: Annotated[int, msgspec.Meta(le=1 << 40)] = msgspec.field(
        name="memoryMiB", default=81559
    )
    pci_bus_id: str = ""
    numa_node: Annotated[int, msgspec.Meta(ge=-1, le=1023)] | None = None
    compute_capability: Annotated[str, msgspec.Meta(max_length=MOST_TEXT)] = "9.0"
    mig: tuple[str, ...] | None = None
    """MIG profiles of its instances; None: MIG mode is off."""
    events: bool = True
    recovery_action: bool = True
    """False: the driver is too old to report recovery actions."""
    mig_capable: bool | None = None
    """None: it is, if it is in MIG mode or has the compute capability of such a GPU."""
    outputs: bool = False
    """Whether it has outputs for displays, by its PCI class."""
    fabric: SimulatedFabric | None = None
    vgpu: SimulatedHost | None = None
    """None: it is no virtual GPU."""
    lacks: tuple[str, ...] = ()
    """Functions of NVML that the driver does not support on it; `optional`: all but its handle, \
UUID, name and PCI address."""

    def supports(self, call: str) -> bool:
        """Return whether the driver supports *call*, a function of NVML, on it."""
        return call not in self.lacks and (OPTIONAL not in self.lacks or call in NEEDED)

    @property
    def on_pci(self) -> bool:
        """Whether it has an address on the PCI bus."""
        return "nvmlDeviceGetPciInfo" not in self.lacks

    @property
    def reports_xids(self) -> bool:
        """Whether the driver reports its Xids."""
        return self.events and self.supports("nvmlDeviceGetSupportedEventTypes")

    @property
    def knows_mig(self) -> bool:
        """Whether the driver knows MIG mode of this GPU."""
        if self.mig is not None or self.mig_capable is not None:
            return self.mig is not None or bool(self.mig_capable)
        return self.compute_capability in MIG_CAPABLE

    def mig_uuid(self, place: int) -> str:
        """Return the UUID of the MIG instance at *place*."""
        return f"MIG-{uuid.uuid5(uuid.UUID(self.uuid.removeprefix('GPU-')), str(place))}"


class SimulatedLink(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How two GPUs are connected."""

    between: tuple[int, int]
    path: LinkLevel = LinkLevel.SYS
    nvlinks: Annotated[int, msgspec.Meta(ge=0, le=MOST_NVLINKS)] = 0


class SimulatedNode(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The node file."""

    gpus: tuple[SimulatedGpu, ...]
    driver_version: Annotated[str, msgspec.Meta(max_length=MOST_TEXT)] = "580.95.05"
    cuda_version: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,3}\.[0-9]$")] = "13.0"
    """The newest CUDA version that the driver supports."""
    platform: SimulatedPlatform = SimulatedPlatform.NVML
    machine: Annotated[str, msgspec.Meta(max_length=MOST_TEXT)] = "Simulated Node"
    """The product name of the machine."""
    links: tuple[SimulatedLink, ...] = ()
    system_memory_mib: Annotated[int, msgspec.Meta(ge=1, le=1 << 40)] = msgspec.field(
        name="systemMemoryMiB", default=2064384
    )
    """Memory of the machine."""
    memory_nodes: Annotated[int, msgspec.Meta(ge=0, le=1023)] = 0
    """NUMA nodes without CPUs, after those of the GPUs; a coherent CPU shows GPU memory so."""
    coherent_memory_mode: Annotated[str, msgspec.Meta(max_length=MOST_TEXT)] = ""
    """The driver's module parameter NVreg_CoherentGPUMemoryMode."""

    def peers(self) -> dict[str, list[tuple[SimulatedGpu, SimulatedLink]]]:
        """Return the connected GPUs of each GPU, by UUID."""
        found: dict[str, list[tuple[SimulatedGpu, SimulatedLink]]] = {
            gpu.uuid: [] for gpu in self.gpus
        }
        for link in self.links:
            first, second = (self.gpus[place] for place in link.between)
            found[first.uuid].append((second, link))
            found[second.uuid].append((first, link))
        return found


class Event(msgspec.Struct, frozen=True):
    """A driver event on the live node."""

    number: int
    """Counts the node's events, from 1."""
    gpu: str
    xid: int | None = None
    """None: the MIG instances of the GPU changed."""
    mig: int | None = None
    """The place of the MIG instance that the Xid names; None: the whole GPU."""


class Live(msgspec.Struct, frozen=True):
    """The live node: its GPUs, their faults, and the latest events."""

    node: SimulatedNode
    layouts: dict[str, tuple[str, ...]] = {}
    """MIG profiles of GPUs whose instances a drill replaced, by UUID."""
    removed: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    actions: dict[str, int] = {}
    """The recovery actions that the driver asks for, by UUID; 0: none."""
    hung: frozenset[str] = frozenset()
    """GPUs on which every call hangs."""
    slow: dict[str, int] = {}
    """How much longer each call on a GPU takes, in milliseconds, by UUID."""
    failing: dict[str, dict[str, int]] = {}
    """The NVML functions that fail on a GPU with their error codes, by UUID."""
    links_down: dict[str, int] = {}
    """NVLinks that are down, by UUID."""
    rows: frozenset[str] = frozenset()
    """GPUs with a memory row whose remapping failed."""
    grey: dict[str, tuple[str, ...]] = {}
    """The grey failures of a GPU, by UUID."""
    mps_faults: frozenset[str] = frozenset()
    """GPUs whose MPS server is in FAULT; the stand-in for MPS reads it by this name."""
    errors: dict[str, int] = {}
    """Uncorrectable memory errors since the last reset, by UUID."""
    resets: dict[str, int] = {}
    """Number of resets of each GPU, by UUID."""
    modes: dict[str, int] = {}
    """Compute modes that are not DEFAULT, as NVML's numbers, by UUID."""
    uses: dict[str, tuple[Use, ...]] = {}
    """The processes that use each GPU, by UUID."""
    passed: frozenset[str] = frozenset()
    """GPUs that are given to virtual machines."""
    apart: dict[str, int] = {}
    """States of GPUs that have not joined their NVLink fabric, as NVML's numbers, by UUID."""
    unlicensed: frozenset[str] = frozenset()
    """Virtual GPUs without a licence."""
    unattested: bool = False
    """Whether confidential computing is on, and the GPUs do not accept work."""
    denied: bool = False
    """Whether the service has no access to the GPU device nodes."""
    happened: int = 0
    events: tuple[Event, ...] = ()

    @property
    def gpus(self) -> tuple[SimulatedGpu, ...]:
        """All GPUs of the node, removed ones too, with their present MIG instances."""
        return tuple(replace(g, mig=self.layouts.get(g.uuid, g.mig)) for g in self.node.gpus)

    def then(self, gpu: SimulatedGpu, xid: int | None = None, mig: int | None = None) -> "Live":
        """Return this node after one more event."""
        number = self.happened + 1
        events = (*self.events, Event(number, gpu.uuid, xid, mig))[-EVENTS_KEPT:]
        return replace(self, happened=number, events=events)


def nvlinks(
    peers: Iterable[tuple[SimulatedGpu, SimulatedLink]],
) -> list[SimulatedGpu | None]:
    """Return the other end of each NVLink of a GPU with these *peers*; None: a switch."""
    counts = [(peer, link.nvlinks) for peer, link in peers]
    direct = [peer for peer, count in counts for _ in range(count)]
    if len(direct) <= NVLINKS:
        return list(direct)
    return [None] * max(count for _, count in counts)


def instance_mib(gpu: SimulatedGpu, profile: str) -> int:
    """Return the memory of a MIG instance: in eighths of that of its GPU."""
    match = PROFILE.match(profile)
    gigabytes = int(match[3]) if match else 1
    return gpu.memory_mib * max(1, round(gigabytes * 1024 * 8 / gpu.memory_mib)) // 8


def capabilities(gpus: Iterable[SimulatedGpu]) -> Iterator[str]:
    """Yield the lines of the driver's mig-minors file."""
    numbers = itertools.count(3)
    for place, gpu in enumerate(gpus):
        for gi, _ in enumerate(gpu.mig or (), start=FIRST_GI):
            yield f"gpu{place}/gi{gi}/access {next(numbers)}\n"
            yield f"gpu{place}/gi{gi}/ci0/access {next(numbers)}\n"
