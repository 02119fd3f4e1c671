"""The part of the simulated NVML that shows grey failures."""

import time
from types import SimpleNamespace

from simulator.nvml_calls import on_gpus
from simulator.nvml_handles import GpuHandle
from simulator.nvml_usage import UsageCalls

MOST_WIDTH, MOST_GENERATION, IDLE_GENERATION = 16, 5, 1

GPU_IDLE, HARDWARE, POWER_BRAKE = 0x1, 0x8, 0x80
"""Why the clocks are as they are, as in nvml.h."""

CORRECTED = 0
"""nvmlMemoryErrorType_t."""

A_SECOND = 2000
"""Corrected errors of a memory that is about to fail; more within a second than allowed an hour."""

BANKS = 640
"""Memory banks of an H100."""


class GreyCalls(UsageCalls):
    """The functions that show grey failures."""

    @on_gpus
    def nvmlDeviceGetCurrPcieLinkWidth(self, handle: GpuHandle) -> int:
        self.physical(handle)
        return MOST_WIDTH // 2 if self.has(handle, "pcie") else MOST_WIDTH

    @on_gpus
    def nvmlDeviceGetMaxPcieLinkWidth(self, handle: GpuHandle) -> int:
        self.physical(handle)
        return MOST_WIDTH

    @on_gpus
    def nvmlDeviceGetCurrPcieLinkGeneration(self, handle: GpuHandle) -> int:
        return MOST_GENERATION if self.load(handle) else IDLE_GENERATION

    @on_gpus
    def nvmlDeviceGetMaxPcieLinkGeneration(self, handle: GpuHandle) -> int:
        self.physical(handle)
        return MOST_GENERATION

    @on_gpus
    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: GpuHandle) -> int:
        idle = 0 if self.load(handle) else GPU_IDLE
        return idle | (HARDWARE | POWER_BRAKE if self.has(handle, "slowdown") else 0)

    @on_gpus
    def nvmlDeviceGetTotalEccErrors(self, handle: GpuHandle, kind: int, counter: int) -> int:
        del counter  # only errors since the last reset are simulated
        uuid = self.physical(handle).uuid
        if kind == CORRECTED:
            return int(time.monotonic() * A_SECOND) if self.has(handle, "ecc-corrected") else 0
        return self.live().errors.get(uuid, 0)

    @on_gpus
    def nvmlDeviceGetRowRemapperHistogram(self, handle: GpuHandle) -> SimpleNamespace:
        self.physical(handle)
        worn = int(self.has(handle, "spare-rows"))
        return SimpleNamespace(max=BANKS - worn, high=0, partial=0, low=0, none=worn)

    @on_gpus
    def nvmlDeviceGetPersistenceMode(self, handle: GpuHandle) -> int:
        self.physical(handle)
        return int(not self.has(handle, "persistence"))
