"""Find the driver calls that do not return, and those that have returned after all."""

import math
from collections.abc import Iterable, Iterator, Sequence

import msgspec
from loguru import logger

from health.condition import Look
from health.gpu_lanes import GpuLanes
from health.lane import Lane
from health.nvml import Running
from proto.calls import HangingCall
from proto.messages import Gpu, Inventory

STANDSTILL = 2.0
"""Seconds without a search after which the process stood still: the monitor searches each second.

A machine that is frozen, or has no time for this process, freezes the threads in the calls too.
"""


class Hang(msgspec.Struct, frozen=True):
    """A call that has not returned within the limit."""

    lane: Lane
    gpu: GpuLanes | None
    """None: the call is about no GPU, or about several."""
    running: Running

    def uuid(self, node: Inventory) -> str:
        """Return the GPU's UUID; empty: unknown.

        A GPU that hangs at the start is the one of the *node* that had its index before.
        """
        if self.gpu is None or self.gpu.gpu:
            return self.gpu.uuid if self.gpu else ""
        mine = (gpu.uuid for gpu in _of_driver(node) if gpu.index == self.gpu.index)
        return next(mine, "")

    @property
    def events_of(self) -> str:
        """The UUID of the GPU whose events the call is about; empty: it is about no events."""
        return self.gpu.uuid if self.gpu and self.lane is self.gpu.events else ""

    def log(self, node: Inventory) -> None:
        """Log that the call hangs; without a GPU, the call is about the whole driver."""
        call, index, uuid = self.running.call, self._index, self.uuid(node) or "unknown"
        logger.error("the driver hangs", call=call, index=index, uuid=uuid)

    def log_end(self, node: Inventory, now: float) -> None:
        """Log that the call has returned."""
        call, index, uuid = self.running.call, self._index, self.uuid(node) or "unknown"
        seconds = round(now - self.running.due, 1)
        logger.info("the driver answers again", call=call, index=index, uuid=uuid, seconds=seconds)

    @property
    def _index(self) -> int | None:
        return self.gpu.index if self.gpu else None


class Hangs:
    """The calls that hang now."""

    def __init__(self) -> None:
        self._known: dict[Lane, Hang] = {}
        self._searched_at = math.inf
        self._counts_from = -math.inf
        """When this process last stood still: no call is late for the time before."""

    def deadline(
        self, lanes: Iterable[tuple[Lane, GpuLanes | None]], now: float, limit: float
    ) -> float:
        """Return when the next call hangs if it does not return; infinity: no call runs."""
        running = (lane.nvml.running for lane, _ in lanes)
        dues = (self._due(call) + limit for call in running if call)
        return min((due for due in dues if due >= now), default=math.inf)

    def now(self) -> tuple[Hang, ...]:
        """Return the calls that hung at the last search."""
        return tuple(self._known.values())

    def shown(self, node: Inventory, now: float) -> tuple[HangingCall, ...]:
        """Return the calls that hang for the state of the *node*."""
        return tuple(
            HangingCall(
                call=hang.running.call,
                index=hang.gpu.index if hang.gpu else None,
                uuid=hang.uuid(node),
                seconds=round(now - hang.running.due, 3),
            )
            for hang in self.now()
        )

    def looks(self, node: Inventory, gpus: Sequence[GpuLanes]) -> dict[str, Look]:
        """Return the check of each GPU of *node* whose check or enumeration hangs, by UUID.

        *gpus* are those that the driver counts. Where all that have not answered hang, so does
        each GPU that is missing for that, though its index may have changed.
        """
        hangs = [hang for hang in self._known.values() if hang.gpu and hang.lane is hang.gpu.calls]
        found = {hang.uuid(node): Look(hung=hang.running.call) for hang in hangs}
        calls = self.by_index()
        silent = [gpu.index for gpu in gpus if gpu.gpu is None]
        shown = {gpu.uuid for gpu in gpus}
        absent = [gpu.uuid for gpu in _of_driver(node) if gpu.uuid not in shown]
        if calls.keys() >= set(silent) and 0 < len(absent) <= len(silent):
            found = {uuid: Look(hung=calls[silent[0]]) for uuid in absent} | found
        return {uuid: look for uuid, look in found.items() if uuid}

    def by_index(self) -> dict[int, str]:
        """Return the calls that hang in the enumeration or a check of a GPU, by its index."""
        hangs = self._known.values()
        return {h.gpu.index: h.running.call for h in hangs if h.gpu and h.lane is h.gpu.calls}

    def search(
        self, lanes: Iterable[tuple[Lane, GpuLanes | None]], now: float, limit: float
    ) -> tuple[list[Hang], list[Hang]]:
        """Return the calls that hang since the last search, and those that have returned."""
        if now - self._searched_at > STANDSTILL:
            self._counts_from = now
        self._searched_at = now
        found = {}
        for lane, gpu in lanes:
            running = lane.nvml.running  # read once: the lane goes on meanwhile
            hung = running is not None and _of(self._known, lane) == running
            if running and (hung or now - self._due(running) > limit):
                found[lane] = Hang(lane, gpu, running)
        before, self._known = self._known, found
        begun = [hang for lane, hang in found.items() if _of(before, lane) != hang.running]
        ended = [hang for lane, hang in before.items() if _of(found, lane) != hang.running]
        return begun, ended

    def _due(self, call: Running) -> float:
        return max(call.due, self._counts_from)


def _of_driver(node: Inventory) -> Iterator[Gpu]:
    """Yield the GPUs of *node* that are not given to virtual machines."""
    return (gpu for gpu in node.gpus if gpu.pci_bus_id not in node.passed)


def _of(hangs: dict[Lane, Hang], lane: Lane) -> Running | None:
    return hangs[lane].running if lane in hangs else None
