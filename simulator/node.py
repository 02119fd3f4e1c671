"""The simulated node: the file that users write, and the live node that drills change.

The live node is one JSON file in the runtime folder. The simulated NVML reads it, drills replace
it, each atomically: so a fault outlives the processes that it troubles, as one in hardware does.
"""

import fcntl
import itertools
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from proto.messages import LinkLevel

LIVE_FILE = "simulated-node.json"

UUID = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PCI_BUS_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
PROFILE = re.compile(r"(?:(\d)c\.)?(\d)g\.(\d+)gb(?:[+-][a-z]+(?:\.[a-z]+)*)*")
"""A MIG profile as NVML names it, such as 1g.10gb, 1g.10gb+me and 1c.3g.40gb."""

FIRST_GI = 7
"""GI of the instance at place 0; the driver, too, numbers small instances from here."""

RESET = 1
"""NVML's recovery action for a GPU that has to be reset."""

APPLICATIONS = frozenset({8, 11, 13, 31, 32, 43, 44, 45, 63, 68, 69, 92, 94})
"""Xids after which a driver asks for no recovery of the GPU."""

XIDS_KEPT = 256
"""Xids that a monitor which is away for a moment can still find; a driver's queue is no longer."""


class NodeError(Exception):
    """A node, or a change to it, that makes no sense; the message is one line."""


class Gpu(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A GPU in the node file."""

    uuid: str = ""
    name: str = "NVIDIA H100 80GB HBM3"
    memory_mib: int = msgspec.field(name="memoryMiB", default=81559)
    pci_bus_id: str = ""
    numa_node: int | None = None
    compute_capability: str = "9.0"
    mig: tuple[str, ...] | None = None
    """Profiles of its instances; None: MIG mode is off."""
    events: bool = True

    def mig_uuid(self, place: int) -> str:
        """Return the UUID of the MIG instance at *place*."""
        return f"MIG-{uuid.uuid5(uuid.UUID(self.uuid.removeprefix('GPU-')), str(place))}"


class Link(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How two GPUs are connected."""

    between: tuple[int, int]
    path: LinkLevel = LinkLevel.SYS
    nvlinks: int = 0


class Node(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The node file."""

    gpus: tuple[Gpu, ...]
    driver_version: str = "580.95.05"
    links: tuple[Link, ...] = ()


class Xid(msgspec.Struct, frozen=True):
    """An Xid that happened on the live node."""

    number: int
    """Counts the node's Xids, from 1."""
    gpu: str
    xid: int
    mig: int | None = None
    """The place of the instance that it names, if it names one."""


class Live(msgspec.Struct, frozen=True):
    """The live node: what is there, what is wrong with it, what happened lately."""

    node: Node
    removed: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    actions: dict[str, int] = {}
    """The recovery actions that the driver asks for, by UUID; 0 is none."""
    hung: frozenset[str] = frozenset()
    """GPUs on which no call returns."""
    rows: frozenset[str] = frozenset()
    """GPUs with a memory row that could not be replaced."""
    happened: int = 0
    xids: tuple[Xid, ...] = ()


def default_node() -> Node:
    """Return 8 x H100 80GB on two NUMA nodes, connected by NVLink as in a DGX."""
    pairs = [(first, second) for first in range(8) for second in range(first + 1, 8)]
    levels = {True: LinkLevel.NODE, False: LinkLevel.SYS}
    links = tuple(Link((a, b), levels[a // 4 == b // 4], nvlinks=18) for a, b in pairs)
    return complete(Node(tuple(Gpu(numa_node=place // 4) for place in range(8)), links=links))


def complete(node: Node) -> Node:
    """Return *node* with the defaults of each GPU's place; NodeError if it makes no sense."""
    gpus = tuple(_complete(place, gpu) for place, gpu in enumerate(node.gpus))
    for key, values in (
        ("uuid", [g.uuid for g in gpus]),
        ("pciBusId", [g.pci_bus_id for g in gpus]),
    ):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise NodeError(f'two GPUs have the {key} "{twice[0]}"')
    for link in node.links:
        if link.between[0] == link.between[1] or not all(0 <= n < len(gpus) for n in link.between):
            raise NodeError(f"links: between {list(link.between)} does not name two of the gpus")
    return msgspec.structs.replace(node, gpus=gpus)


def _complete(place: int, gpu: Gpu) -> Gpu:
    uuid = gpu.uuid or f"GPU-00000000-0000-0000-0000-{place:012x}"
    bus = (gpu.pci_bus_id or f"0000:{place + 1:02x}:00.0").lower()
    if not UUID.fullmatch(uuid):
        raise NodeError(
            f'gpus[{place}]: uuid "{uuid}" is not like GPU-00000000-0000-0000-0000-000000000000'
        )
    if not PCI_BUS_ID.fullmatch(bus):
        raise NodeError(f'gpus[{place}]: pciBusId "{bus}" is not like 0000:07:00.0')
    if gpu.memory_mib < 1:
        raise NodeError(f"gpus[{place}]: memoryMiB {gpu.memory_mib} is not positive")
    if not re.fullmatch(r"\d+\.\d+", gpu.compute_capability):
        raise NodeError(
            f'gpus[{place}]: computeCapability "{gpu.compute_capability}" is not like 9.0'
        )
    for profile in gpu.mig or ():
        if not PROFILE.fullmatch(profile):
            raise NodeError(f'gpus[{place}]: mig "{profile}" is not like 1g.10gb')
    return msgspec.structs.replace(gpu, uuid=uuid, pci_bus_id=bus)


def _capabilities(node: Node) -> Iterator[str]:
    """Yield the lines of the driver's mig-minors file."""
    numbers = itertools.count(3)
    for place, gpu in enumerate(node.gpus):
        for gi, _ in enumerate(gpu.mig or (), start=FIRST_GI):
            yield f"gpu{place}/gi{gi}/access {next(numbers)}\n"
            yield f"gpu{place}/gi{gi}/ci0/access {next(numbers)}\n"


class LiveNode:
    """The live node's file, for whoever reads or changes it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LIVE_FILE
        self.sysfs = folder / "sysfs"
        self.procfs = folder / "procfs"

    def start(self, node: Node) -> None:
        """Set the node up, with its sysfs; one that was here before keeps its faults."""
        for gpu in node.gpus:
            device = self.sysfs / "bus/pci/devices" / gpu.pci_bus_id
            device.mkdir(parents=True, exist_ok=True)
            number = -1 if gpu.numa_node is None else gpu.numa_node
            (device / "numa_node").write_text(f"{number}\n")
        capabilities = self.procfs / "driver/nvidia-caps/mig-minors"
        capabilities.parent.mkdir(parents=True, exist_ok=True)
        capabilities.write_text("config 1\nmonitor 2\n" + "".join(_capabilities(node)))
        self._change(lambda live: live if live and live.node == node else Live(node))

    def read(self) -> Live:
        """Return the node as it is now; NodeError if there is none."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Live)
        except OSError as error:
            raise NodeError(f'cannot find a simulated node at "{self.path.parent}"') from error

    def xid(self, place: int, code: int, mig: int | None = None) -> None:
        """Let an Xid happen on a GPU, or on the MIG instance at the place *mig* of it."""

        def happen(live: Live, gpu: Gpu) -> Live:
            if mig is not None and not 0 <= mig < len(gpu.mig or ()):
                raise NodeError(f"cannot find MIG instance {mig} on GPU {place}")
            number = live.happened + 1
            xids = (*live.xids, Xid(number, gpu.uuid, code, mig))[-XIDS_KEPT:]
            actions = live.actions if code in APPLICATIONS else {**live.actions, gpu.uuid: RESET}
            return msgspec.structs.replace(live, happened=number, xids=xids, actions=actions)

        self._change_gpu(place, happen)

    def lose(self, place: int) -> None:
        """Let a GPU fall off the bus."""

        def fall(live: Live, gpu: Gpu) -> Live:
            actions = {**live.actions, gpu.uuid: RESET}
            return msgspec.structs.replace(live, lost=live.lost | {gpu.uuid}, actions=actions)

        self._change_gpu(place, fall)

    def hang(self, place: int) -> None:
        """Let no call on a GPU return."""
        self._change_gpu(place, lambda v, g: msgspec.structs.replace(v, hung=v.hung | {g.uuid}))

    def recover(self, place: int) -> None:
        """Let a GPU that is lost, or on which calls hang, answer again."""

        def answer(live: Live, gpu: Gpu) -> Live:
            gone = {gpu.uuid}
            return msgspec.structs.replace(live, lost=live.lost - gone, hung=live.hung - gone)

        self._change_gpu(place, answer)

    def ask_for(self, place: int, action: int) -> None:
        """Let the driver ask for a recovery action, by NVML's number."""

        def ask(live: Live, gpu: Gpu) -> Live:
            return msgspec.structs.replace(live, actions={**live.actions, gpu.uuid: action})

        self._change_gpu(place, ask)

    def fail_row(self, place: int) -> None:
        """Let a memory row fail for good."""
        self._change_gpu(place, lambda v, g: msgspec.structs.replace(v, rows=v.rows | {g.uuid}))

    def reset(self, place: int) -> None:
        """Reset a GPU: it answers, nothing is wrong with it any more and no recovery is due."""

        def start_anew(live: Live, gpu: Gpu) -> Live:
            gone = {gpu.uuid}
            actions = {uuid: action for uuid, action in live.actions.items() if uuid not in gone}
            return msgspec.structs.replace(
                live,
                lost=live.lost - gone,
                hung=live.hung - gone,
                rows=live.rows - gone,
                actions=actions,
            )

        self._change_gpu(place, start_anew)

    def remove(self, place: int) -> None:
        """Take a GPU out of the node."""
        self._change_gpu(
            place, lambda v, g: msgspec.structs.replace(v, removed=v.removed | {g.uuid})
        )

    def add(self, place: int) -> None:
        """Put a GPU back that was taken out."""
        self._change_gpu(
            place, lambda v, g: msgspec.structs.replace(v, removed=v.removed - {g.uuid})
        )

    def _change_gpu(self, place: int, change: Callable[[Live, Gpu], Live]) -> None:
        def apply(live: Live | None) -> Live:
            gpus = live.node.gpus if live else ()
            if live is None or not 0 <= place < len(gpus):
                raise NodeError(f"cannot find GPU {place}: the simulated node has {len(gpus)} GPUs")
            return change(live, gpus[place])

        self.read()  # a clear error where there is no node
        self._change(apply)

    def _change(self, change: Callable[[Live | None], Live]) -> None:
        """Replace the live node atomically, one change after the other."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.read() if self.path.exists() else None
            new = self.path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(change(before)))
            new.replace(self.path)
