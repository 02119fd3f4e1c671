"""How a call enters the simulated NVML: what it sees of the node, what delays it, how it fails.

Several threads may call at once, and a GPU that hangs or is slow delays only the calls on itself.
"""

import functools
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import msgspec
from inotify_simple import INotify, flags

from simulator.live_node import LiveNode
from simulator.node import Live, SimulatedGpu, SimulatedLink
from simulator.nvml_handles import (
    GPU_IS_LOST,
    INVALID_ARGUMENT,
    NO_PERMISSION,
    NOT_FOUND,
    NOT_SUPPORTED,
    GpuHandle,
    MigHandle,
    NVMLError,
)

EVENT_WAIT = "nvmlEventSetWait"


class Seen(msgspec.Struct, frozen=True):
    """The live node at one moment."""

    version: tuple[int, int]
    live: Live
    gpus: tuple[SimulatedGpu, ...]
    peers: dict[str, list[tuple[SimulatedGpu, SimulatedLink]]]
    """The connected GPUs of each GPU in the node file, by UUID."""


class NodeReader:
    """The newest state of the live node, for several threads.

    Threads that wait for a change share one inotify descriptor, as the kernel has few of them: one
    of them reads it, and tells the others.
    """

    def __init__(self, folder: Path) -> None:
        self.store = LiveNode(folder)
        self._newest: Seen | None = None
        self._notice: INotify | None = None
        self._told = threading.Condition()
        self._reading = False

    def seen(self) -> Seen:
        """Return the present node; each thread uses its own copy."""
        version, seen = self._version(), self._newest
        if seen is None or version != seen.version:
            live = self.store.read()
            self._newest = seen = Seen(version, live, live.gpus, live.node.peers())
        return seen

    def wait(self, seen: Seen, seconds: float | None) -> None:
        """Wait until the node differs from *seen*, at most *seconds*; it may return early."""
        with self._told:
            notice = self._watching()
            if self._version() != seen.version:
                return  # it changed, perhaps before the watch
            if self._reading:
                self._told.wait(seconds)
                return
            self._reading = True
        try:
            notice.read(timeout=None if seconds is None else seconds * 1000)
        finally:
            with self._told:
                self._reading = False
                self._told.notify_all()  # also after a timeout, as another thread must read now

    def _watching(self) -> INotify:
        # Kept between waits: closing it may take 20 ms and would delay the next Xid.
        if self._notice is None:
            self._notice = INotify()
            self._notice.add_watch(self.store.path.parent, flags.MOVED_TO)
            weakref.finalize(self, self._notice.close)
        return self._notice

    def _version(self) -> tuple[int, int]:
        found = self.store.path.stat()
        return found.st_ino, found.st_mtime_ns


def delay(live: Live, uuid: str, waited: float) -> float | None:
    """Return the seconds that a call on the GPU still takes after *waited*; None: it hangs."""
    return None if uuid in live.hung else max(0.0, live.slow.get(uuid, 0) / 1000 - waited)


def failure(live: Live, uuid: str, call: str) -> int | None:
    """Return the error code of a call on the GPU; None: the GPU answers."""
    if live.denied:
        return NO_PERMISSION
    if uuid in live.lost | live.removed | live.passed:
        return GPU_IS_LOST
    return live.failing.get(uuid, {}).get(call)


class Calls:
    """What every function of the binding begins with."""

    def __init__(self, folder: Path) -> None:
        self._node = NodeReader(folder)

    def enter(self, call: str, uuid: str) -> None:
        """Return when the GPU answers *call*; NVMLError if the call fails on it."""
        begun = time.monotonic()
        while True:
            seen = self._node.seen()
            left = delay(seen.live, uuid, time.monotonic() - begun)
            if left == 0:
                break
            self._node.wait(seen, left)
        if code := failure(seen.live, uuid, call):
            raise NVMLError(code)
        if not next(gpu for gpu in seen.gpus if gpu.uuid == uuid).supports(call):
            raise NVMLError(NOT_SUPPORTED)

    def live(self) -> Live:
        """Return the node as it is now."""
        return self._node.seen().live

    def set_mode(self, uuid: str, mode: int) -> None:
        """Give a GPU a compute mode."""
        self._node.store.set_mode(uuid, mode)

    def gpu(self, handle: GpuHandle | MigHandle) -> SimulatedGpu:
        """Return the GPU of a handle."""
        return next(gpu for gpu in self._node.seen().gpus if gpu.uuid == handle.uuid)

    def physical(self, handle: GpuHandle | MigHandle) -> SimulatedGpu:
        """Return the GPU of a handle; NVMLError for the handle of a MIG instance."""
        gpu = self.gpu(handle)
        if isinstance(handle, MigHandle):
            raise NVMLError(NOT_SUPPORTED)
        return gpu

    def has(self, handle: GpuHandle | MigHandle, failure: str) -> bool:
        """Return whether a GPU has a grey failure."""
        return failure in self.live().grey.get(handle.uuid, ())

    def profile(self, handle: GpuHandle | MigHandle) -> str:
        """Return the profile of a MIG instance; NVMLError for the handle of a GPU."""
        gpu = self.gpu(handle)
        if isinstance(handle, GpuHandle):
            raise NVMLError(INVALID_ARGUMENT)
        if handle.place >= len(gpu.mig or ()):
            raise NVMLError(NOT_FOUND)
        return (gpu.mig or ())[handle.place]


Simulated = TypeVar("Simulated", bound=Calls)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def on_gpus(
    function: Callable[Concatenate[Simulated, Arguments], Result],
) -> Callable[Concatenate[Simulated, Arguments], Result]:
    """Make *function* wait and fail as the GPUs among its arguments demand."""
    name = function.__name__

    @functools.wraps(function)
    def call(node: Simulated, /, *args: Arguments.args, **named: Arguments.kwargs) -> Result:
        for handle in args:
            if isinstance(handle, GpuHandle | MigHandle):
                node.enter(name, handle.uuid)
        return function(node, *args, **named)

    return call
