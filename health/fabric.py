"""A GPU's place in its NVLink fabric, as the driver reports it."""

import ctypes
import uuid

from health.nvml import Code, Nvml, NvmlError
from proto.facts import Fabric

NOT_STARTED, IN_PROGRESS, COMPLETED = 1, 2, 3
"""nvmlGpuFabricState_t; 0: the GPU has no fabric. Completed: it has joined, or failed to."""

WORDS = {NOT_STARTED: "not started", IN_PROGRESS: "in progress"}


class OldFabricInfo(ctypes.Structure):
    """nvmlGpuFabricInfo_t of nvml.h."""

    _fields_ = (
        ("cluster", ctypes.c_ubyte * 16),
        ("status", ctypes.c_int),
        ("clique", ctypes.c_uint),
        ("state", ctypes.c_ubyte),
    )


class FabricInfo(ctypes.Structure):
    """nvmlGpuFabricInfo_v2_t of nvml.h."""

    VERSION = 0x02000024
    _fields_ = (
        ("version", ctypes.c_uint),
        ("cluster", ctypes.c_ubyte * 16),
        ("status", ctypes.c_int),
        ("clique", ctypes.c_uint),
        ("state", ctypes.c_ubyte),
        ("health", ctypes.c_uint),
    )


def ask(nvml: Nvml, handle: object) -> FabricInfo | OldFabricInfo:
    """Return what the driver reports of a GPU; raise NvmlError, also for one without a fabric."""
    info = FabricInfo(version=FabricInfo.VERSION)
    try:
        nvml.call("nvmlDeviceGetGpuFabricInfoV", handle, ctypes.pointer(info))
    except NvmlError as error:
        if error.code != Code.FUNCTION_NOT_FOUND:
            raise
        older = OldFabricInfo()
        nvml.call("nvmlDeviceGetGpuFabricInfo", handle, ctypes.pointer(older))
        return older
    return info


def missing(info: FabricInfo | OldFabricInfo) -> str:
    """Return why a GPU has not joined its fabric; empty: it has, or has none."""
    if info.state == COMPLETED:
        return f"failed with NVML error {info.status}" if info.status else ""
    return WORDS.get(info.state, f"state {info.state}") if info.state else ""


def place(info: FabricInfo | OldFabricInfo) -> Fabric:
    """Return the cluster and clique of a GPU."""
    cluster = bytes(info.cluster)
    if missing(info):
        return Fabric("", 0, complete=False)
    if not info.state or not any(cluster):
        return Fabric("", 0)
    return Fabric(str(uuid.UUID(bytes=cluster)), int(info.clique))
