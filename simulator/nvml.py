"""The simulated NVML: the functions, handles and exceptions of nvidia-ml-py that the monitor uses.

It answers from the file of the live node. Like the real library, it shows the GPUs of the time when
it was initialised; a GPU that is removed or lost afterwards answers GPU_IS_LOST.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from inotify_simple import INotify, flags

from proto.messages import LinkLevel
from simulator.live_node import LiveNode
from simulator.node import FIRST_GI, PROFILE, Live, SimulatedGpu, SimulatedLink
from simulator.nvml_handles import (
    GPU_IS_LOST,
    INVALID_ARGUMENT,
    NO_PERMISSION,
    NOT_FOUND,
    NOT_SUPPORTED,
    TIMEOUT,
    GpuHandle,
    MigHandle,
    NVMLError,
)

LEVELS = {
    LinkLevel.SAME: 0,
    LinkLevel.PIX: 10,
    LinkLevel.PXB: 20,
    LinkLevel.PHB: 30,
    LinkLevel.NODE: 40,
    LinkLevel.SYS: 50,
}
NVLINKS = 18
MIG_PLACES = 7
XID_EVENT, MIG_EVENT = 0x8, 0x100
RECOVERY_ACTION = 230
MILLIJOULES = 1_000_000_000
"""Energy of a GPU before its first reset; each reset lowers it, as on a real GPU."""
ANY_INSTANCE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Seen:
    """The live node at one moment."""

    version: tuple[int, int]
    live: Live
    gpus: tuple[SimulatedGpu, ...]
    peers: dict[str, list[tuple[SimulatedGpu, SimulatedLink]]]
    """The connected GPUs of each GPU in the node file, by UUID."""


class EventSet:
    """The registered GPUs, and the number of the last event that a wait has returned."""

    def __init__(self, seen: int, folder: Path) -> None:
        self.registered: set[str] = set()
        self.seen = seen
        # Kept between waits: closing it may take 20 ms and would delay the next Xid.
        self.notice = _notice(folder)


def _notice(folder: Path) -> INotify:
    """Return an inotify descriptor that is readable after a file in *folder* was replaced."""
    notice = INotify()
    notice.add_watch(folder, flags.MOVED_TO)
    return notice


def load(folder: str) -> "Binding":
    """Return a binding to the live node in *folder*."""
    return Binding(Path(folder))


class Binding:
    """Replaces the module pynvml."""

    NVMLError = NVMLError

    def __init__(self, folder: Path) -> None:
        self._store = LiveNode(folder)
        self._newest: Seen | None = None
        self._gpus: list[str] = []

    def _seen(self) -> Seen:
        """Return the present node; safe for several threads, as each uses its local copy."""
        version, seen = self._version(), self._newest
        if seen is None or version != seen.version:
            live = self._store.read()
            self._newest = seen = Seen(version, live, live.gpus, live.node.peers())
        return seen

    def _live(self) -> Live:
        return self._seen().live

    def _gpu(self, handle: GpuHandle | MigHandle) -> SimulatedGpu:
        while handle.uuid in (seen := self._seen()).live.hung:
            with _notice(self._store.path.parent) as notice:
                self._wait_for_change(notice, seen, None)
        live = seen.live
        if live.denied:
            raise NVMLError(NO_PERMISSION)
        if handle.uuid in live.lost | live.removed:
            raise NVMLError(GPU_IS_LOST)
        return next(gpu for gpu in seen.gpus if gpu.uuid == handle.uuid)

    def _physical(self, handle: GpuHandle | MigHandle) -> SimulatedGpu:
        gpu = self._gpu(handle)
        if isinstance(handle, MigHandle):
            raise NVMLError(NOT_SUPPORTED)
        return gpu

    def _profile(self, handle: GpuHandle | MigHandle) -> str:
        gpu = self._gpu(handle)
        if isinstance(handle, GpuHandle):
            raise NVMLError(INVALID_ARGUMENT)
        if handle.place >= len(gpu.mig or ()):
            raise NVMLError(NOT_FOUND)
        return (gpu.mig or ())[handle.place]

    def nvmlInit(self) -> None:
        live = self._live()
        if live.denied:
            raise NVMLError(NO_PERMISSION)
        self._gpus = [gpu.uuid for gpu in live.gpus if gpu.uuid not in live.removed]

    def nvmlSystemGetDriverVersion(self) -> str:
        return self._live().node.driver_version

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> GpuHandle:
        handle = GpuHandle(self._gpus[index])
        self._gpu(handle)
        return handle

    def nvmlDeviceGetUUID(self, handle: GpuHandle | MigHandle) -> str:
        gpu = self._gpu(handle)
        return gpu.uuid if isinstance(handle, GpuHandle) else gpu.mig_uuid(handle.place)

    def nvmlDeviceGetName(self, handle: GpuHandle | MigHandle) -> str:
        gpu = self._gpu(handle)
        if isinstance(handle, GpuHandle):
            return gpu.name
        return f"{gpu.name} MIG {self._profile(handle)}"

    def nvmlDeviceGetMinorNumber(self, handle: GpuHandle) -> int:
        gpu = self._physical(handle)
        return [known.uuid for known in self._seen().gpus].index(gpu.uuid)

    def nvmlDeviceGetPciInfo(self, handle: GpuHandle) -> SimpleNamespace:
        return SimpleNamespace(busId=f"0000{self._physical(handle).pci_bus_id}".upper())

    def nvmlDeviceGetMemoryInfo(self, handle: GpuHandle) -> SimpleNamespace:
        return SimpleNamespace(total=self._physical(handle).memory_mib << 20)

    def nvmlDeviceGetCudaComputeCapability(self, handle: GpuHandle) -> tuple[int, int]:
        major, minor = self._physical(handle).compute_capability.split(".")
        return int(major), int(minor)

    def nvmlDeviceGetMigMode(self, handle: GpuHandle) -> list[int]:
        mode = int(self._physical(handle).mig is not None)
        return [mode, mode]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: GpuHandle) -> int:
        return max(MIG_PLACES, len(self._physical(handle).mig or ()))

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: GpuHandle, index: int) -> MigHandle:
        if index >= len(self._physical(handle).mig or ()):
            raise NVMLError(NOT_FOUND)
        return MigHandle(handle.uuid, index)

    def nvmlDeviceGetGpuInstanceId(self, handle: MigHandle) -> int:
        self._profile(handle)
        return FIRST_GI + handle.place

    def nvmlDeviceGetComputeInstanceId(self, handle: MigHandle) -> int:
        self._profile(handle)
        return 0

    def nvmlDeviceGetAttributes(self, handle: MigHandle) -> SimpleNamespace:
        match = PROFILE.match(self._profile(handle))
        compute, slices, gigabytes = match.groups() if match else (None, "1", "1")
        total = self._gpu(handle).memory_mib
        eighths = max(1, round(int(gigabytes) * 1024 * 8 / total))
        return SimpleNamespace(
            gpuInstanceSliceCount=int(slices),
            computeInstanceSliceCount=int(compute or slices),
            memorySizeMB=total * eighths // 8,
        )

    def nvmlDeviceGetTopologyCommonAncestor(self, first: GpuHandle, second: GpuHandle) -> int:
        mine, other = self._physical(first), self._physical(second)
        paths = (
            link.path for peer, link in self._seen().peers[mine.uuid] if peer.uuid == other.uuid
        )
        return LEVELS[next(paths, LinkLevel.SYS)]

    def _nvlinks(self, handle: GpuHandle) -> list[SimulatedGpu | None]:
        """Return the peer of each active NVLink; None: the peer is a switch."""
        links = self._seen().peers[self._physical(handle).uuid]
        peers = [(peer, link.nvlinks) for peer, link in links]
        direct = [peer for peer, count in peers for _ in range(count)]
        if len(direct) <= NVLINKS:
            return list(direct)
        return [None] * max(count for _, count in peers)

    def nvmlDeviceGetNvLinkState(self, handle: GpuHandle, link: int) -> int:
        if link >= NVLINKS:
            raise NVMLError(INVALID_ARGUMENT)
        return int(link < len(self._nvlinks(handle)))

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: GpuHandle, link: int) -> int:
        return 2 if self._nvlinks(handle)[link] is None else 0

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: GpuHandle, link: int) -> SimpleNamespace:
        peer = self._nvlinks(handle)[link]
        if peer is None:
            raise NVMLError(NOT_SUPPORTED)
        return SimpleNamespace(busId=f"0000{peer.pci_bus_id}".upper())

    def nvmlDeviceGetSupportedEventTypes(self, handle: GpuHandle) -> int:
        return XID_EVENT | MIG_EVENT if self._physical(handle).events else 0

    def nvmlDeviceGetFieldValues(
        self, handle: GpuHandle, fields: Sequence[int]
    ) -> list[SimpleNamespace]:
        gpu = self._physical(handle)
        action = SimpleNamespace(uiVal=self._live().actions.get(gpu.uuid, 0))
        known = {RECOVERY_ACTION: SimpleNamespace(nvmlReturn=0, value=action)}
        if not gpu.recovery_action:
            known = {}
        return [known.get(field, SimpleNamespace(nvmlReturn=NOT_SUPPORTED)) for field in fields]

    def nvmlDeviceGetRemappedRows(self, handle: GpuHandle) -> tuple[int, int, int, int]:
        failed = int(self._physical(handle).uuid in self._live().rows)
        return 0, failed, 0, failed

    def nvmlDeviceGetTotalEccErrors(self, handle: GpuHandle, kind: int, counter: int) -> int:
        del kind, counter  # only uncorrected errors since the last reset are simulated
        return self._live().errors.get(self._physical(handle).uuid, 0)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: GpuHandle) -> int:
        resets = self._live().resets.get(self._physical(handle).uuid, 0)
        return MILLIJOULES // (resets + 1)

    def nvmlEventSetCreate(self) -> EventSet:
        return EventSet(self._live().happened, self._store.path.parent)

    def nvmlDeviceRegisterEvents(self, handle: GpuHandle, types: int, events: EventSet) -> None:
        if types & ~self.nvmlDeviceGetSupportedEventTypes(handle):
            raise NVMLError(NOT_SUPPORTED)
        events.registered.add(handle.uuid)

    def nvmlEventSetWait(self, events: EventSet, milliseconds: int) -> SimpleNamespace:
        deadline = time.monotonic() + milliseconds / 1000
        while (event := self._next_event(events, seen := self._seen())) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise NVMLError(TIMEOUT)
            self._wait_for_change(events.notice, seen, left * 1000)
        return event

    def _wait_for_change(self, notice: INotify, seen: Seen, milliseconds: float | None) -> None:
        """Wait until the live node differs from *seen*, for at most *milliseconds*."""
        if self._version() == seen.version:  # else it changed, perhaps before the watch
            notice.read(timeout=milliseconds)

    def _version(self) -> tuple[int, int]:
        found = self._store.path.stat()
        return found.st_ino, found.st_mtime_ns

    def _next_event(self, events: EventSet, seen: Seen) -> SimpleNamespace | None:
        live = seen.live
        for event in live.events:
            if event.number > events.seen and event.gpu in events.registered:
                events.seen = event.number
                place = event.mig
                return SimpleNamespace(
                    eventType=MIG_EVENT if event.xid is None else XID_EVENT,
                    device=GpuHandle(event.gpu),
                    eventData=event.xid or 0,
                    gpuInstanceId=ANY_INSTANCE if place is None else FIRST_GI + place,
                    computeInstanceId=ANY_INSTANCE if place is None else 0,
                )
        if live.denied:
            raise NVMLError(NO_PERMISSION)
        if events.registered & (live.lost | live.removed):
            raise NVMLError(GPU_IS_LOST)
        return None

    def nvmlEventSetFree(self, events: EventSet) -> None:
        events.registered.clear()
        events.notice.close()
