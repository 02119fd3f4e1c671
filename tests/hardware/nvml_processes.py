"""What NVML says about a GPU and MPS, by ctypes, so that a bare machine can ask."""

import contextlib
import ctypes
from collections.abc import Iterator

MOST = 64
"""Processes asked for."""


class Process(ctypes.Structure):
    """nvmlProcessInfo_t."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("gi", ctypes.c_uint),
        ("ci", ctypes.c_uint),
    )


@contextlib.contextmanager
def first_gpu() -> Iterator["Gpu | None"]:
    """Open NVML for GPU 0; None: there is no driver."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        yield None
        return
    device = ctypes.c_void_p()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(device)):
        yield None
        return
    try:
        yield Gpu(library, device)
    finally:
        library.nvmlShutdown()


class Gpu:
    """GPU 0 of this machine."""

    def __init__(self, library: ctypes.CDLL, device: ctypes.c_void_p) -> None:
        self._library = library
        self._device = device

    def uuid(self) -> str:
        """Return its UUID."""
        text = ctypes.create_string_buffer(96)
        self._library.nvmlDeviceGetUUID(self._device, text, 96)
        return text.value.decode()

    def compute_mode(self) -> int:
        """Return its compute mode; 0 is DEFAULT."""
        mode = ctypes.c_uint()
        self._library.nvmlDeviceGetComputeMode(self._device, ctypes.byref(mode))
        return mode.value

    def processes(self, kind: str) -> list[tuple[int, int]]:
        """Return pid and bytes of the processes of a kind: Compute or MPSCompute."""
        count = ctypes.c_uint(MOST)
        found = (Process * MOST)()
        ask = getattr(self._library, f"nvmlDeviceGet{kind}RunningProcesses_v3")
        if code := ask(self._device, ctypes.byref(count), found):
            return [(-code, 0)]
        return [(process.pid, process.memory) for process in found[: count.value]]
