"""Typed access to NVML, by nvidia-ml-py or the simulated binding with the same functions.

Each thread has an `Nvml` of its own, which shows the call that the thread is in.
Codes and levels are those of nvml.h.
"""

import contextlib
import ctypes
import enum
import importlib
import time
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import msgspec

from health.pci import bus_id
from proto.calls import CallStats
from proto.messages import LinkLevel

XID_EVENT = 0x8
"""nvmlEventTypeXidCriticalError: only for this type is the event data an Xid."""

MIG_EVENT = 0x100
"""nvmlEventMigConfigChange."""

HINTS = MIG_EVENT | 0x1000 | 0x2000 | 0x4000 | 0x8000
"""Events that cause a check: MIG change, poison errors, GPU unavailable, recovery action."""

ANY_INSTANCE = 0xFFFFFFFF
"""The GI or CI of an event that is not about a MIG instance."""

NVLINK_MAX = 36
"""NVML_NVLINK_MAX_LINKS; most GPUs have fewer and return an error for the rest."""

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
    """The nvmlReturn_t values that this program acts on."""

    INVALID_ARGUMENT = 2
    NOT_SUPPORTED = 3
    NO_PERMISSION = 4
    NOT_FOUND = 6
    DRIVER_NOT_LOADED = 9
    TIMEOUT = 10
    LIBRARY_NOT_FOUND = 12
    FUNCTION_NOT_FOUND = 13
    GPU_IS_LOST = 15
    OPERATING_SYSTEM = 17
    VERSION_MISMATCH = 18
    UNKNOWN = 999


ABSENT = frozenset({Code.INVALID_ARGUMENT, Code.NOT_SUPPORTED, Code.NOT_FOUND})
ABSENT |= {Code.FUNCTION_NOT_FOUND}
"""Answers that mean "this GPU or driver does not have the feature", which is not a fault."""


class NvmlError(Exception):
    """An NVML call failed."""

    def __init__(self, call: str, code: int, text: str) -> None:
        super().__init__(f"cannot call {call}: {text} (NVML error {code})")
        self.call = call
        self.code = code


class XidEvent(msgspec.Struct, frozen=True):
    """An Xid that the driver reported; `gpu` is the key of the GPU's handle."""

    gpu: Hashable
    gi: int | None
    ci: int | None
    """The MIG instance that the Xid is about; None: any."""
    xid: int


class Hint(msgspec.Struct, frozen=True):
    """An event that is not an Xid: something about a GPU changed, so check it."""

    kind: int

    @property
    def of_mig(self) -> bool:
        """Whether MIG instances were added or removed."""
        return self.kind == MIG_EVENT


def key_of(handle: Any) -> Hashable:
    """Return a key that is equal for equal handles; the handles themselves compare by identity."""
    contents = getattr(handle, "contents", None)
    return handle if contents is None else ctypes.addressof(contents)


class Running(msgspec.Struct, frozen=True):
    """A driver call that has not returned yet."""

    call: str
    due: float
    """When it should return, on the monotonic clock: at once, or at the end of a wait."""


class Nvml:
    """Calls NVML for one thread; returns results as values and raises NvmlError."""

    def __init__(self, binding: Any = None) -> None:
        self._binding = binding
        self.running: Running | None = None
        """The call that the thread is in; other threads may read it."""
        self._stats: dict[str, CallStats] = {}
        self.counted = 0
        """How many calls `stats` tells of."""

    def load(self, module: str, argument: str) -> None:
        """Load the binding that `load(argument)` of *module* returns."""
        with self.doing("dlopen"):
            self._binding = importlib.import_module(module).load(argument)

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Show that the thread is in *what*, which may hang like a call."""
        self.running = Running(what, time.monotonic())
        try:
            yield
        finally:
            self.running = None

    def for_thread(self) -> "Nvml":
        """Return access to the same binding for another thread."""
        return Nvml(self._binding)

    def use(self, wrapped: Callable[[Any], Any]) -> None:
        """Go on with the binding that *wrapped* makes of the present one."""
        self._binding = wrapped(self._binding)

    def call(self, name: str, *arguments: object) -> Any:
        """Call the binding's function *name*."""
        function = getattr(self._binding, name, None)
        if function is None:
            raise NvmlError(name, Code.FUNCTION_NOT_FOUND, "the binding has no such function")
        began, code = time.monotonic(), 0
        self.running = Running(name, began)
        try:
            return function(*arguments)
        except self._binding.NVMLError as error:
            code = error.value
            raise NvmlError(name, code, str(error)) from error
        except UnicodeDecodeError as error:  # from the binding, for a board whose texts are broken
            code = Code.UNKNOWN
            raise NvmlError(name, code, "the answer is not UTF-8 text") from error
        finally:
            self.running = None
            self._count(name, time.monotonic() - began, code)

    def _count(self, name: str, seconds: float, code: int) -> None:
        before = self._stats.get(name, CallStats(name, 0, 0.0))
        errors = before.errors
        if code and code not in ABSENT:
            errors = {**errors, code: errors.get(code, 0) + 1}
        self._stats[name] = CallStats(name, before.count + 1, before.seconds + seconds, errors)
        self.counted += 1

    def stats(self) -> tuple[CallStats, ...]:
        """Return statistics of all calls so far, except the event wait."""
        return tuple(self._stats.values())

    def ask(self, name: str, *arguments: object) -> Any:
        """Call the function *name*; return None if the GPU or driver does not have the feature."""
        try:
            return self.call(name, *arguments)
        except NvmlError as error:
            if error.code in ABSENT:
                return None
            raise

    def start(self) -> None:
        """Initialise NVML: at most once in a process, because a second time leaks memory."""
        self.call("nvmlInit")

    def driver_version(self) -> str:
        """Return the driver's version; empty: it does not tell."""
        return str(self.ask("nvmlSystemGetDriverVersion") or "")

    def gpu_count(self) -> int:
        """Return the number of GPUs, lost ones included."""
        return int(self.call("nvmlDeviceGetCount"))

    def mig_enabled(self, handle: object) -> bool:
        """Return whether the GPU is in MIG mode now."""
        mode = self.ask("nvmlDeviceGetMigMode", handle)
        return bool(mode and mode[0])

    def memory_mib(self, handle: object) -> int | None:
        """Return the GPU memory in MiB; None if the GPU uses the system memory."""
        info = self.ask("nvmlDeviceGetMemoryInfo", handle)
        # Some drivers do not answer for such a GPU, others answer 0.
        return int(info.total) >> 20 or None if info else None

    def field(self, handle: object, number: int) -> int | None:
        """Return the value of an integer NVML field; None if the GPU does not have the field."""
        values = self.ask("nvmlDeviceGetFieldValues", handle, [number])
        # Each field has its own return code, which the binding does not check.
        if not values or values[0].nvmlReturn != 0:
            return None
        return int(values[0].value.uiVal)

    def level(self, first: object, second: object) -> LinkLevel:
        """Return the closest common ancestor of two GPUs; SYS if the driver does not report it."""
        level = self.ask("nvmlDeviceGetTopologyCommonAncestor", first, second)
        return LEVELS.get(level, LinkLevel.SYS)

    def nvlinks_up(self, handle: object) -> int | None:
        """Return the number of active NVLinks; None if the driver does not report it."""
        up = None
        for link in range(NVLINK_MAX):
            active = self.ask("nvmlDeviceGetNvLinkState", handle, link)
            if active is None:
                break
            up = (up or 0) + bool(active)
        return up

    def nvlink_peers(self, handle: object) -> list[str]:
        """Return the peer of each active NVLink: its PCI bus ID, "switch", or "" if unknown."""
        peers = []
        for link in range(NVLINK_MAX):
            active = self.ask("nvmlDeviceGetNvLinkState", handle, link)
            if active is None:
                break
            if active:
                peers.append(self._peer(handle, link))
        return peers

    def _peer(self, handle: object, link: int) -> str:
        if self.ask("nvmlDeviceGetNvLinkRemoteDeviceType", handle, link) == 2:  # noqa: PLR2004
            return "switch"  # NVML_NVLINK_DEVICE_TYPE_SWITCH
        info = self.ask("nvmlDeviceGetNvLinkRemotePciInfo", handle, link)
        return bus_id(info.busId) if info else ""

    def reports_xids(self, handle: object) -> bool:
        """Return whether the GPU can report Xids."""
        return bool((self.ask("nvmlDeviceGetSupportedEventTypes", handle) or 0) & XID_EVENT)

    def event_set(self) -> object:
        """Return a new event set; one thread at a time may wait on it."""
        return self.call("nvmlEventSetCreate")

    def register(self, handle: object, events: object) -> None:
        """Register a GPU on an event set, which then also gets the events of its MIG instances."""
        # Request supported events only: one unsupported type fails the whole registration.
        known = self.ask("nvmlDeviceGetSupportedEventTypes", handle) or 0
        self.call("nvmlDeviceRegisterEvents", handle, XID_EVENT | (known & HINTS), events)

    def lost(self, handle: object) -> bool:
        """Return whether the driver cannot reach the GPU any more.

        It queries the memory: looking up a handle fails for all GPUs when one is lost.
        """
        try:
            self.ask("nvmlDeviceGetMemoryInfo", handle)
        except NvmlError as error:
            return error.code == Code.GPU_IS_LOST
        return False

    def wait(self, events: object, milliseconds: int) -> XidEvent | Hint | None:
        """Return the next event of an event set; None after *milliseconds* without an event."""
        # Not through `call`: how long a wait takes says nothing about the driver.
        self.running = Running("nvmlEventSetWait", time.monotonic() + milliseconds / 1000)
        try:
            data = self._binding.nvmlEventSetWait(events, milliseconds)
        except self._binding.NVMLError as error:
            if error.value == Code.TIMEOUT:
                return None
            raise NvmlError("nvmlEventSetWait", error.value, str(error)) from error
        finally:
            self.running = None
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
        """Free an event set; no thread may be waiting on it."""
        self.call("nvmlEventSetFree", events)
