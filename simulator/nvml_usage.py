"""The part of the simulated NVML that tells how much of a GPU is in use."""

import time
from types import SimpleNamespace

from proto.host import since_boot
from simulator.node import instance_mib
from simulator.nvml_calls import Calls, on_gpus
from simulator.nvml_handles import (
    INVALID_ARGUMENT,
    NOT_FOUND,
    NOT_SUPPORTED,
    GpuHandle,
    MigHandle,
    NVMLError,
)
from simulator.usage import RESERVED_MIB, Use, used_mib

CLOCK_SM = 1
IDLE_CLOCK, MOST_CLOCK = 345, 1980
"""MHz."""
IDLE_CELSIUS, IDLE_MILLIWATTS, MOST_MILLIWATTS = 34, 70_000, 700_000


class UsageCalls(Calls):
    """The functions about usage."""

    def _uses(self, handle: GpuHandle | MigHandle) -> list[Use]:
        place = handle.place if isinstance(handle, MigHandle) else None
        found = self.live().uses.get(handle.uuid, ())
        return [use for use in found if place in (None, use.mig)]

    def _busy(self, handle: GpuHandle) -> int:
        """Return the utilization of a GPU; one in MIG mode does not tell it."""
        if self.physical(handle).mig is not None:
            raise NVMLError(NOT_SUPPORTED)
        return min(100, sum(use.busy(since_boot()) for use in self._uses(handle)))

    @on_gpus
    def nvmlDeviceGetUtilizationRates(self, handle: GpuHandle) -> SimpleNamespace:
        busy = self._busy(handle)
        return SimpleNamespace(gpu=busy, memory=busy // 3)

    @on_gpus
    def nvmlDeviceGetMemoryInfo(
        self, handle: GpuHandle | MigHandle, version: int = 0
    ) -> SimpleNamespace:
        gpu, is_gpu = self.gpu(handle), isinstance(handle, GpuHandle)
        total = gpu.memory_mib if is_gpu else instance_mib(gpu, self.profile(handle))
        reserved = RESERVED_MIB if is_gpu else 0
        used = used_mib(self._uses(handle))
        if version:
            return SimpleNamespace(total=total << 20, used=used << 20, reserved=reserved << 20)
        return SimpleNamespace(total=total << 20, used=(used + reserved) << 20)

    @on_gpus
    def nvmlDeviceGetTemperature(self, handle: GpuHandle, sensor: int) -> int:
        if sensor:
            raise NVMLError(INVALID_ARGUMENT)
        return IDLE_CELSIUS + self.load(handle) * 2 // 5

    @on_gpus
    def nvmlDeviceGetPowerUsage(self, handle: GpuHandle) -> int:
        share = self.load(handle) / 110
        return IDLE_MILLIWATTS + round((MOST_MILLIWATTS - IDLE_MILLIWATTS) * share)

    @on_gpus
    def nvmlDeviceGetEnforcedPowerLimit(self, handle: GpuHandle) -> int:
        self.physical(handle)
        return MOST_MILLIWATTS

    @on_gpus
    def nvmlDeviceGetClockInfo(self, handle: GpuHandle, kind: int) -> int:
        if kind != CLOCK_SM:
            return 2619
        slow = not self.load(handle) or self.has(handle, "clocks")
        return IDLE_CLOCK if slow else MOST_CLOCK

    @on_gpus
    def nvmlDeviceGetMaxClockInfo(self, handle: GpuHandle, kind: int) -> int:
        self.physical(handle)
        return MOST_CLOCK if kind == CLOCK_SM else 2619

    def load(self, handle: GpuHandle) -> int:
        """Return how busy a GPU is, in percent."""
        self.physical(handle)
        return min(100, sum(use.busy(since_boot()) for use in self._uses(handle)))

    @on_gpus
    def nvmlDeviceGetComputeRunningProcesses_v3(
        self, handle: GpuHandle | MigHandle
    ) -> list[SimpleNamespace]:
        return self._listed(handle, "compute")

    @on_gpus
    def nvmlDeviceGetGraphicsRunningProcesses_v3(
        self, handle: GpuHandle | MigHandle
    ) -> list[SimpleNamespace]:
        return self._listed(handle, "graphics")

    @on_gpus
    def nvmlDeviceGetMPSComputeRunningProcesses_v3(
        self, handle: GpuHandle | MigHandle
    ) -> list[SimpleNamespace]:
        return self._listed(handle, "mps")

    def _listed(self, handle: GpuHandle | MigHandle, kind: str) -> list[SimpleNamespace]:
        if isinstance(handle, MigHandle):
            self.profile(handle)
        uses = (use for use in self._uses(handle) if use.kind == kind)
        return [SimpleNamespace(pid=u.pid, usedGpuMemory=u.memory_mib << 20) for u in uses]

    @on_gpus
    def nvmlDeviceGetProcessesUtilizationInfo(
        self, handle: GpuHandle, since: int
    ) -> list[SimpleNamespace]:
        self._busy(handle)
        now = time.time_ns() // 1000
        busy = [(use.pid, use.busy(since_boot())) for use in self._uses(handle)]
        if since >= now or not any(percent for _, percent in busy):
            raise NVMLError(NOT_FOUND)
        return [SimpleNamespace(pid=p, smUtil=percent, timeStamp=now) for p, percent in busy]
