"""A typed face on NVML, and the only place that imports pynvml.

The binding behind it is nvidia-ml-py, or the simulated one with the same functions.
Every call passes through `Nvml.call`, so there is one place that knows which call is running.
Codes and levels are those of nvml.h.
"""

import ctypes
import enum
import os
import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from health.running_call import RunningCall
from proto.messages import CallStats, LinkLevel

LIBRARY = "libnvidia-ml.so.1"
LIBRARY_FOLDERS = (
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
)
"""Where distributions put the driver's libraries, below its root."""

XID_EVENT = 0x8
"""nvmlEventTypeXidCriticalError: only with it is an event's data an Xid."""

MIG_EVENT = 0x100
"""nvmlEventMigConfigChange."""

HINTS = MIG_EVENT | 0x1000 | 0x2000 | 0x4000 | 0x8000
"""Events that call for a look: poison errors, GPU unavailable and recovery action too."""

ANY_INSTANCE = 0xFFFFFFFF
"""The GI or CI of an event that is not about a MIG instance."""

NVLINK_MAX = 36
"""NVML_NVLINK_MAX_LINKS; most GPUs have fewer and say so."""

LEVELS = {
    0: LinkLevel.SAME,
    10: LinkLevel.PIX,
    20: LinkLevel.PXB,
    30: LinkLevel.PHB,
    40: LinkLevel.NODE,
    50: LinkLevel.SYS,
}
"""nvmlGpuTopologyLevel_t, as `nvidia-smi topo` names them."""


class Code(enum.IntEnum):
    """The nvmlReturn_t values on which we decide."""

    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    VERSION_MISMATCH = 18
    UNKNOWN = 999


ABSENT = frozenset({Code.INVALID_ARGUMENT, Code.NOT_SUPPORTED, Code.NOT_FOUND})
ABSENT |= {Code.FUNCTION_NOT_FOUND}
"""Answers that mean "this GPU or driver has no such thing", which is no fault."""


class NvmlError(Exception):
    """An NVML call failed."""

    def __init__(self, call: str, code: int, text: str) -> None:
        super().__init__(f"cannot call {call}: {text} (NVML error {code})")
        self.code = code


@dataclass(frozen=True, slots=True)
class XidEvent:
    """An Xid that the driver reported; `gpu` is the key of the GPU's handle."""

    gpu: Hashable
    gi: int | None
    ci: int | None
    """The MIG instance that it concerns; None: any."""
    xid: int


@dataclass(frozen=True, slots=True)
class Hint:
    """An event that is no Xid: something about a GPU is other than before, so look."""

    kind: int

    @property
    def of_mig(self) -> bool:
        """Whether MIG instances came or went."""
        return self.kind == MIG_EVENT


def load(driver_root: str) -> Any:
    """Return nvidia-ml-py with the library below *driver_root*, or else the loader's."""
    import pynvml  # noqa: PLC0415 - loaded by the monitor alone, after the fork

    for folder in LIBRARY_FOLDERS if driver_root.strip("/") else ():
        path = os.path.realpath(os.path.join(driver_root, folder, LIBRARY))  # noqa: PTH118
        if os.path.exists(path):  # noqa: PTH110
            # The binding looks for the bare name only, unless it finds this set.
            pynvml.nvmlLib = ctypes.CDLL(path)
            break
    return pynvml


def key_of(handle: Any) -> Hashable:
    """Return what is equal for equal handles; the binding's own compare by identity."""
    contents = getattr(handle, "contents", None)
    return handle if contents is None else ctypes.addressof(contents)


class Nvml:
    """NVML's calls, with values for results and NvmlError for errors."""

    def __init__(self, binding: Any, trace: RunningCall | None = None) -> None:
        self._binding = binding
        self._trace = trace
        self.names: dict[Hashable, str] = {}
        """The UUIDs of GPUs by the keys of their handles, to name them."""
        self._stats: dict[str, CallStats] = {}

    def call(self, name: str, *arguments: object) -> Any:
        """Call the binding's function *name*."""
        function = getattr(self._binding, name, None)
        if function is None:
            raise NvmlError(name, Code.FUNCTION_NOT_FOUND, "the binding has no such function")
        if self._trace:
            gpu = self.names.get(key_of(arguments[0]), "") if arguments else ""
            self._trace.enter(f"{name} {gpu}".rstrip())
        began, code = time.monotonic(), 0
        try:
            return function(*arguments)
        except self._binding.NVMLError as error:
            code = error.value
            raise NvmlError(name, code, str(error)) from error
        finally:
            if self._trace:
                self._trace.leave()
            self._count(name, time.monotonic() - began, code)

    def _count(self, name: str, seconds: float, code: int) -> None:
        before = self._stats.get(name, CallStats(name, 0, 0.0))
        errors = before.errors
        if code and code not in ABSENT:
            errors = {**errors, code: errors.get(code, 0) + 1}
        self._stats[name] = CallStats(name, before.count + 1, before.seconds + seconds, errors)

    def stats(self) -> tuple[CallStats, ...]:
        """Return what was called so far, the wait for events aside."""
        return tuple(self._stats.values())

    def ask(self, name: str, *arguments: object) -> Any:
        """Call function *name*; None where the GPU or the driver has no such thing."""
        try:
            return self.call(name, *arguments)
        except NvmlError as error:
            if error.code in ABSENT:
                return None
            raise

    def start(self) -> None:
        """Initialise the library: once in the life of a process, since doing it again leaks."""
        self.call("nvmlInit")

    def driver_version(self) -> str:
        """Return the driver's version."""
        return str(self.call("nvmlSystemGetDriverVersion"))

    def gpu_count(self) -> int:
        """Return the number of GPUs, lost ones included."""
        return int(self.call("nvmlDeviceGetCount"))

    def reaches(self, index: int) -> bool:
        """Return whether the GPU at *index* can be enumerated."""
        try:
            self.call("nvmlDeviceGetHandleByIndex", index)
        except NvmlError:
            return False
        return True

    def mig_enabled(self, handle: object) -> bool:
        """Return whether the GPU is in MIG mode now."""
        mode = self.ask("nvmlDeviceGetMigMode", handle)
        return bool(mode and mode[0])

    def memory_mib(self, handle: object) -> int | None:
        """Return the memory in MiB; None where it is the system's own."""
        info = self.ask("nvmlDeviceGetMemoryInfo", handle)
        return None if info is None else int(info.total) >> 20

    def field(self, handle: object, number: int) -> int | None:
        """Return the value of an NVML field of whole numbers; None where there is none."""
        values = self.ask("nvmlDeviceGetFieldValues", handle, [number])
        # Each field has an answer of its own, which the binding does not look at.
        if not values or values[0].nvmlReturn != 0:
            return None
        return int(values[0].value.uiVal)

    def level(self, first: object, second: object) -> LinkLevel:
        """Return the closest common ancestor of two GPUs; SYS where the driver does not tell."""
        level = self.ask("nvmlDeviceGetTopologyCommonAncestor", first, second)
        return LEVELS.get(level, LinkLevel.SYS)

    def nvlinks_up(self, handle: object) -> int | None:
        """Return how many NVLinks are active; None where the driver does not tell."""
        up = None
        for link in range(NVLINK_MAX):
            active = self.ask("nvmlDeviceGetNvLinkState", handle, link)
            if active is None:
                break
            up = (up or 0) + bool(active)
        return up

    def nvlink_peers(self, handle: object) -> list[str]:
        """Return, for each active NVLink, the peer's PCI bus id, or "switch"."""
        peers = []
        for link in range(NVLINK_MAX):
            active = self.ask("nvmlDeviceGetNvLinkState", handle, link)
            if active is None:
                break
            if not active:
                continue
            if self.ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link) == 2:  # noqa: PLR2004
                peers.append("switch")  # NVML_NVLINK_DEVICE_TYPE_SWITCH
            elif info := self.ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link):
                peers.append(bus_id(info.busId))
        return peers

    def reports_xids(self, handle: object) -> bool:
        """Return whether the GPU can report Xids."""
        return bool((self.ask("nvmlDeviceGetSupportedEventTypes", handle) or 0) & XID_EVENT)

    def event_set(self) -> object:
        """Return a new event set; one thread at a time may wait on it."""
        return self.call("nvmlEventSetCreate")

    def register(self, handle: object, events: object) -> None:
        """Let the events of a GPU arrive on an event set; MIG instances' come with their GPU's."""
        # What is not supported must not be asked for: it would fail the registration of all.
        known = self.ask("nvmlDeviceGetSupportedEventTypes", handle) or 0
        self.call("nvmlDeviceRegisterEvents", handle, XID_EVENT | (known & HINTS), events)

    def lost(self, handle: object) -> bool:
        """Return whether the driver no longer reaches the GPU.

        Asked by memory, since looking a handle up fails for all GPUs when one is lost.
        """
        try:
            self.ask("nvmlDeviceGetMemoryInfo", handle)
        except NvmlError as error:
            return error.code == Code.GPU_IS_LOST
        return False

    def wait(self, events: object, milliseconds: int) -> XidEvent | Hint | None:
        """Return the next event of an event set; None when none came in time."""
        try:
            # Not by `call`: it waits in a thread of its own, whose calls are not to be traced.
            data = self._binding.nvmlEventSetWait(events, milliseconds)
        except self._binding.NVMLError as error:
            if error.value == Code.TIMEOUT:
                return None
            raise NvmlError("nvmlEventSetWait", error.value, str(error)) from error
        if data.eventType != XID_EVENT:
            return Hint(int(data.eventType))
        gi, ci = data.gpuInstanceId, data.computeInstanceId
        return XidEvent(
            gpu=key_of(data.device),
            gi=None if gi == ANY_INSTANCE else gi,
            ci=None if ci == ANY_INSTANCE else ci,
            xid=int(data.eventData),
        )

    def free(self, events: object) -> None:
        """Release an event set that nobody waits on."""
        self.call("nvmlEventSetFree", events)


def bus_id(text: str | bytes) -> str:
    """Return a PCI bus id as the kernel writes it: NVML's domain has eight digits, in capitals."""
    name = text.decode() if isinstance(text, bytes) else text
    domain, _, rest = name.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"
