"""The last hour of each GPU's usage, for the lines on the page; it needs little memory."""

from collections.abc import Iterable
from dataclasses import dataclass

from proto.messages import UsageState
from proto.usage import DeviceUsage

STEP = 10.0
"""Seconds of a step, for which one figure is kept."""

STEPS = 360

GROUP = 4
"""Steps of one point that is drawn."""

POINTS = STEPS // GROUP

GPUS = 256
"""Most GPUs that have a history."""

GAP = 255
"""Stands for an unknown figure among figures in percent."""

LATE = 1.5
"""A sample may be later than the interval by this factor without leaving a gap."""

Line = tuple[int | None, ...]
"""Figures in percent, the newest last; None: unknown."""


@dataclass(frozen=True, slots=True)
class Hour:
    """What is drawn of one GPU: POINTS figures each."""

    utilization: Line
    memory: Line
    """Used memory, in percent of all memory."""


class History:
    """Keeps the figures of the last hour; times are seconds of any clock that does not jump."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def add(self, state: UsageState, now: float) -> None:
        """Add samples that arrived at *now*; those that were there before are no new figures."""
        for device in state.devices:
            if not device.uuid.startswith("MIG-"):
                self._add(device, state.interval, now)

    def _add(self, device: DeviceUsage, interval: float, now: float) -> None:
        kept = self._kept.get(device.uuid)
        if kept is None:
            self._forget(now)
            if len(self._kept) >= GPUS:
                return
            kept = self._kept[device.uuid] = _Kept()
        if kept.taken != device.taken:
            kept.taken = device.taken
            first = _step(now - LATE * interval) + 1
            kept.utilization.put(first, _step(now), _bounded(device.utilization))
            kept.memory.put(first, _step(now), _memory(device))

    def _forget(self, now: float) -> None:
        """Drop the GPUs of which nothing is left to draw."""
        first = _step(now) - STEPS
        self._kept = {uuid: kept for uuid, kept in self._kept.items() if kept.newest > first}

    def hours(self, uuids: Iterable[str], now: float) -> dict[str, Hour]:
        """Return the hour before *now* of each GPU that has figures in it."""
        first = _step(now) - STEPS
        return {
            uuid: Hour(kept.utilization.line(_step(now)), kept.memory.line(_step(now)))
            for uuid in uuids
            if (kept := self._kept.get(uuid)) and kept.newest > first
        }


class _Kept:
    """What is kept of one GPU."""

    __slots__ = ("memory", "taken", "utilization")

    def __init__(self) -> None:
        self.taken: float | None = None
        self.utilization = _Ring()
        self.memory = _Ring()

    @property
    def newest(self) -> int:
        """The newest step with a figure."""
        return max(self.utilization.newest, self.memory.newest)


class _Ring:
    """The highest figure of each of the last STEPS steps."""

    __slots__ = ("_figures", "newest")

    def __init__(self) -> None:
        self._figures = bytearray([GAP]) * STEPS
        self.newest = -STEPS

    def put(self, first: int, last: int, figure: int | None) -> None:
        """Put a *figure* into the step *last*, and into unknown steps from *first* on."""
        if figure is None or last < self.newest:
            return
        self._advance(last)
        before = self._figures[last % STEPS]
        self._figures[last % STEPS] = figure if before == GAP else max(before, figure)
        for step in range(max(first, last - STEPS + 1), last):
            if self._figures[step % STEPS] == GAP:
                self._figures[step % STEPS] = figure

    def _advance(self, last: int) -> None:
        for step in range(max(self.newest, last - STEPS) + 1, last + 1):
            self._figures[step % STEPS] = GAP
        self.newest = last

    def line(self, last: int) -> Line:
        """Return the mean of each group of steps up to *last*.

        A group begins at a multiple of GROUP, so that a point that is drawn stays as it is.
        """
        end = (last // GROUP + 1) * GROUP
        figures = bytearray([GAP]) * STEPS
        for step in range(max(end, self.newest + 1) - STEPS, min(end, self.newest + 1)):
            figures[step - end + STEPS] = self._figures[step % STEPS]
        return tuple(_mean(figures[at : at + GROUP]) for at in range(0, STEPS, GROUP))


def _mean(figures: bytearray) -> int | None:
    known = figures.replace(bytes([GAP]), b"")
    return round(sum(known) / len(known)) if known else None


def _step(now: float) -> int:
    return int(now // STEP)


def _memory(device: DeviceUsage) -> int | None:
    if device.memory_used is None or not device.memory_total:
        return None
    return _bounded(round(100 * device.memory_used / device.memory_total))


def _bounded(percent: int | None) -> int | None:
    return None if percent is None else max(0, min(percent, 100))
