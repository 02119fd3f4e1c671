"""The simulated NVML: the functions, handles and exceptions of nvidia-ml-py that the monitor uses.

It answers from the file of the live node. Like the real library, it shows the GPUs of the time when
it was initialised; a GPU that is removed or lost afterwards answers GPU_IS_LOST.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from proto.messages import LinkLevel
from simulator.node import (
    BY_INDEX,
    BY_UUID,
    FIRST_GI,
    MISSING,
    NVLINKS,
    Live,
    SimulatedGpu,
    nvlinks,
)
from simulator.nvml_calls import EVENT_WAIT, failure, on_gpus
from simulator.nvml_facts import FactCalls
from simulator.nvml_grey import GreyCalls
from simulator.nvml_handles import (
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
MIG_PLACES = 7
XID_EVENT, MIG_EVENT = 0x8, 0x100
RECOVERY_ACTION = 230
COMPUTE_MODES = range(4)
MILLIJOULES = 1_000_000_000
"""Energy of a GPU before its first reset; each reset lowers it, as on a real GPU."""
ANY_INSTANCE = 0xFFFFFFFF


class EventSet:
    """The registered GPUs, and the number of the last event that a wait has returned."""

    def __init__(self, seen: int) -> None:
        self.registered: set[str] = set()
        self.seen = seen


def load(folder: str) -> "Binding":
    """Return a binding to the live node in *folder*."""
    return Binding(Path(folder))


class Binding(FactCalls, GreyCalls):
    """Replaces the module pynvml."""

    NVMLError = NVMLError

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._gpus: list[str] = []

    def nvmlInit(self) -> None:
        live = self.live()
        if live.denied:
            raise NVMLError(NO_PERMISSION)
        missing = {uuid for uuid, failures in live.grey.items() if MISSING in failures}
        away = live.removed | live.passed | missing
        self._gpus = [gpu.uuid for gpu in live.gpus if gpu.uuid not in away]

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.live().node.driver_version

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> GpuHandle:
        handle = GpuHandle(self._gpus[index])
        self.enter(BY_INDEX, handle.uuid)
        return handle

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> GpuHandle:
        if uuid not in self._gpus:
            raise NVMLError(NOT_FOUND)
        self.enter(BY_UUID, uuid)
        return GpuHandle(uuid)

    @on_gpus
    def nvmlDeviceGetComputeMode(self, handle: GpuHandle) -> int:
        return self.live().modes.get(self.physical(handle).uuid, 0)

    @on_gpus
    def nvmlDeviceSetComputeMode(self, handle: GpuHandle, mode: int) -> None:
        if mode not in COMPUTE_MODES:
            raise NVMLError(INVALID_ARGUMENT)
        self.set_mode(self.physical(handle).uuid, mode)

    @on_gpus
    def nvmlDeviceGetUUID(self, handle: GpuHandle | MigHandle) -> str:
        gpu = self.gpu(handle)
        return gpu.uuid if isinstance(handle, GpuHandle) else gpu.mig_uuid(handle.place)

    @on_gpus
    def nvmlDeviceGetName(self, handle: GpuHandle | MigHandle) -> str:
        gpu = self.gpu(handle)
        if isinstance(handle, GpuHandle):
            return gpu.name
        return f"{gpu.name} MIG {self.profile(handle)}"

    @on_gpus
    def nvmlDeviceGetMinorNumber(self, handle: GpuHandle) -> int:
        gpu = self.physical(handle)
        return [known.uuid for known in self._node.seen().gpus].index(gpu.uuid)

    @on_gpus
    def nvmlDeviceGetPciInfo(self, handle: GpuHandle) -> SimpleNamespace:
        return SimpleNamespace(busId=f"0000{self.physical(handle).pci_bus_id}".upper())

    @on_gpus
    def nvmlDeviceGetCudaComputeCapability(self, handle: GpuHandle) -> tuple[int, int]:
        major, minor = self.physical(handle).compute_capability.split(".")
        return int(major), int(minor)

    @on_gpus
    def nvmlDeviceGetMaxMigDeviceCount(self, handle: GpuHandle) -> int:
        return max(MIG_PLACES, len(self.physical(handle).mig or ()))

    @on_gpus
    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: GpuHandle, index: int) -> MigHandle:
        if index >= len(self.physical(handle).mig or ()):
            raise NVMLError(NOT_FOUND)
        return MigHandle(handle.uuid, index)

    @on_gpus
    def nvmlDeviceGetGpuInstanceId(self, handle: MigHandle) -> int:
        self.profile(handle)
        return FIRST_GI + handle.place

    @on_gpus
    def nvmlDeviceGetComputeInstanceId(self, handle: MigHandle) -> int:
        self.profile(handle)
        return 0

    @on_gpus
    def nvmlDeviceGetTopologyCommonAncestor(self, first: GpuHandle, second: GpuHandle) -> int:
        mine, other = self.physical(first), self.physical(second)
        paths = (
            link.path
            for peer, link in self._node.seen().peers[mine.uuid]
            if peer.uuid == other.uuid
        )
        return LEVELS[next(paths, LinkLevel.SYS)]

    def _nvlinks(self, handle: GpuHandle) -> list[SimulatedGpu | None]:
        """Return the peer of each active NVLink; None: the peer is a switch."""
        seen, uuid = self._node.seen(), self.physical(handle).uuid
        links = nvlinks(seen.peers[uuid])
        return links[: max(0, len(links) - seen.live.links_down.get(uuid, 0))]

    def _peer(self, handle: GpuHandle, link: int) -> SimulatedGpu | None:
        active = self._nvlinks(handle)
        if link >= len(active):
            raise NVMLError(NOT_SUPPORTED)
        return active[link]

    @on_gpus
    def nvmlDeviceGetNvLinkState(self, handle: GpuHandle, link: int) -> int:
        if link >= NVLINKS:
            raise NVMLError(INVALID_ARGUMENT)
        return int(link < len(self._nvlinks(handle)))

    @on_gpus
    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: GpuHandle, link: int) -> int:
        return 2 if self._peer(handle, link) is None else 0

    @on_gpus
    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: GpuHandle, link: int) -> SimpleNamespace:
        peer = self._peer(handle, link)
        if peer is None:
            raise NVMLError(NOT_SUPPORTED)
        return SimpleNamespace(busId=f"0000{peer.pci_bus_id}".upper())

    @on_gpus
    def nvmlDeviceGetSupportedEventTypes(self, handle: GpuHandle) -> int:
        return self._event_types(handle)

    def _event_types(self, handle: GpuHandle) -> int:
        return XID_EVENT | MIG_EVENT if self.physical(handle).events else 0

    @on_gpus
    def nvmlDeviceGetFieldValues(
        self, handle: GpuHandle, fields: Sequence[int]
    ) -> list[SimpleNamespace]:
        gpu = self.physical(handle)
        action = SimpleNamespace(uiVal=self.live().actions.get(gpu.uuid, 0))
        known = {RECOVERY_ACTION: SimpleNamespace(nvmlReturn=0, value=action)}
        if not gpu.recovery_action:
            known = {}
        return [known.get(field, SimpleNamespace(nvmlReturn=NOT_SUPPORTED)) for field in fields]

    @on_gpus
    def nvmlDeviceGetRemappedRows(self, handle: GpuHandle) -> tuple[int, int, int, int]:
        failed = int(self.physical(handle).uuid in self.live().rows)
        return 0, failed, 0, failed

    @on_gpus
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: GpuHandle) -> int:
        resets = self.live().resets.get(self.physical(handle).uuid, 0)
        return MILLIJOULES // (resets + 1)

    def nvmlEventSetCreate(self) -> EventSet:
        return EventSet(self.live().happened)

    @on_gpus
    def nvmlDeviceRegisterEvents(self, handle: GpuHandle, types: int, events: EventSet) -> None:
        if types & ~self._event_types(handle):
            raise NVMLError(NOT_SUPPORTED)
        events.registered.add(handle.uuid)

    def nvmlEventSetWait(self, events: EventSet, milliseconds: int) -> SimpleNamespace:
        deadline = time.monotonic() + milliseconds / 1000
        while True:
            seen = self._node.seen()
            left = None  # the wait hangs with any of its GPUs
            if not events.registered & seen.live.hung:
                if event := self._next_event(events, seen.live):
                    return event
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NVMLError(TIMEOUT)
            self._node.wait(seen, left)

    def _next_event(self, events: EventSet, live: Live) -> SimpleNamespace | None:
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
        for uuid in events.registered:
            if code := failure(live, uuid, EVENT_WAIT):
                raise NVMLError(code)
        return None

    def nvmlEventSetFree(self, events: EventSet) -> None:
        events.registered.clear()


FUNCTIONS = frozenset(
    name for name in dir(Binding) if name.startswith("nvmlDevice") and name != "nvmlDeviceGetCount"
) | {EVENT_WAIT}
"""The functions that can fail on a GPU."""
