"""The part of the simulated NVML that only labels need, and what a MIG instance has of its GPU."""

import uuid
from types import SimpleNamespace
from typing import Any

from simulator.node import PROFILE, instance_mib
from simulator.nvml_calls import Calls, on_gpus
from simulator.nvml_handles import NOT_SUPPORTED, GpuHandle, MigHandle, NVMLError

JOINED = 3
"""NVML_GPU_FABRIC_STATE_COMPLETED."""

DEGRADED, WELL = 0x1A9, 0x1AA
"""The fabric's health mask, with a degraded bandwidth and without."""

VGPU = 2
"""NVML_GPU_VIRTUALIZATION_MODE_VGPU."""

SLICES = 7
"""Slices of a whole GPU."""

MULTIPROCESSORS = 16
"""Multiprocessors of a slice, as on an H100."""


class FactCalls(Calls):
    """The functions about what only labels tell."""

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        major, minor = self.live().node.cuda_version.split(".")
        return int(major) * 1000 + int(minor) * 10

    @on_gpus
    def nvmlDeviceGetMigMode(self, handle: GpuHandle) -> list[int]:
        gpu = self.physical(handle)
        if not gpu.knows_mig:
            raise NVMLError(NOT_SUPPORTED)
        mode = int(gpu.mig is not None)
        return [mode, mode]

    @on_gpus
    def nvmlDeviceGetVirtualizationMode(self, handle: GpuHandle) -> int:
        return VGPU if self.physical(handle).vgpu else 0

    @on_gpus
    def nvmlDeviceGetGpuFabricInfoV(self, handle: GpuHandle, info: Any) -> None:
        gpu = self.physical(handle)
        fabric, state = gpu.fabric, self.live().apart.get(gpu.uuid, 0)
        if not (fabric or state):
            raise NVMLError(NOT_SUPPORTED)
        if fabric and not state:
            info.contents.cluster[:] = uuid.UUID(fabric.cluster).bytes
            info.contents.clique = fabric.clique
        info.contents.status, info.contents.state = 0, state or JOINED
        info.contents.health = DEGRADED if self.has(handle, "fabric") else WELL

    @on_gpus
    def nvmlDeviceGetGridLicensableFeatures_v4(self, handle: GpuHandle) -> SimpleNamespace:
        gpu = self.physical(handle)
        feature = SimpleNamespace(featureState=int(gpu.uuid not in self.live().unlicensed))
        return SimpleNamespace(
            isGridLicenseSupported=int(gpu.vgpu is not None),
            licensableFeaturesCount=1,
            gridLicensableFeatures=[feature],
        )

    def nvmlSystemGetConfComputeState(self) -> SimpleNamespace:
        return SimpleNamespace(ccFeature=int(self.live().unattested))

    def nvmlSystemGetConfComputeGpusReadyState(self) -> int:
        return int(not self.live().unattested)

    @on_gpus
    def nvmlDeviceGetAttributes(self, handle: MigHandle) -> SimpleNamespace:
        profile = self.profile(handle)
        match = PROFILE.match(profile)
        compute, slices = match.groups()[:2] if match else (None, "1")
        gi, ci = int(slices), int(compute or slices)
        return SimpleNamespace(
            multiprocessorCount=MULTIPROCESSORS * ci,
            sharedCopyEngineCount=gi,
            sharedDecoderCount=gi,
            sharedEncoderCount=0,
            sharedJpegCount=gi,
            sharedOfaCount=int(gi >= SLICES or "+me" in profile),
            gpuInstanceSliceCount=gi,
            computeInstanceSliceCount=ci,
            memorySizeMB=instance_mib(self.gpu(handle), profile),
        )
