"""Watch all GPUs for events, and recover from every error of the wait."""

from collections.abc import Mapping
from dataclasses import dataclass

from loguru import logger

from health.event_thread import EventThread, Sight
from health.nvml import Code, Nvml, NvmlError
from proto.reasons import Reason, ReasonKind

AGAIN = (0.1, 1.0, 5.0, 30.0)
"""Seconds until the next attempt, by the number of failures in a row; the last value repeats."""

UNSUPPORTED = frozenset({Code.NOT_SUPPORTED, Code.FUNCTION_NOT_FOUND})
"""Answers that mean that a GPU or driver has no events, which is no fault."""

BLIND = Reason(ReasonKind.UNWATCHED)
"""No GPU can be watched for events; ends as soon as a wait succeeds."""


STUCK = Reason(ReasonKind.DRIVER_HANG, "nvmlEventSetWait")
"""The wait for events does not return."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The result of a failed wait."""

    lost: tuple[str, ...]
    """The UUIDs of lost GPUs, found by a call on each GPU."""


class EventWatch:
    """The wait for the events of all GPUs, and why some GPUs are not watched."""

    def __init__(self, nvml: Nvml, handles: Mapping[str, object]) -> None:
        self._nvml = nvml
        self._handles = handles
        self._thread: EventThread | None = None
        self._watched: frozenset[str] = frozenset()
        self._failures = 0
        self._error = ""
        """The error of the last failed attempt; empty after a success."""
        self.again_at: float | None = 0.0
        """When to start the next wait; None while a wait runs or there is no GPU to watch."""
        self.unwatched: dict[str, Reason] = {}
        self.unsupported: frozenset[str] = frozenset()
        """The UUIDs of GPUs whose driver turned out to support no events; they are only polled."""

    def fileno(self) -> int | None:
        """Return the file descriptor that is readable while sights are queued; None: no wait."""
        return self._thread.fileno() if self._thread else None

    def seen(self) -> list[Sight]:
        """Return the sights since the last call, in order."""
        return self._thread.seen() if self._thread else []

    def on_well(self) -> None:
        """Clear the reasons that a successful wait disproves."""
        self._failures = 0
        self._error = ""
        self.unwatched = {
            uuid: why for uuid, why in self.unwatched.items() if why not in {BLIND, STUCK}
        }

    def is_new(self, error: NvmlError) -> bool:
        """Note the *error* of an attempt; return whether it differs from the last one."""
        before, self._error = self._error, str(error)
        return before != self._error

    def on_failed(self, now: float, code: int = 0) -> Failed:
        """End the wait after an error with this NVML *code*, and find out which GPUs are lost."""
        if code in UNSUPPORTED:
            self.unsupported |= self._watched
            self.end()
            return Failed(())
        self._failures += 1
        lost = tuple(uuid for uuid in self._watched if self._nvml.lost(self._handles[uuid]))
        if not lost and self._failures > 1:
            self.unwatched = {**dict.fromkeys(self._watched, BLIND), **self.unwatched}
        self.end()
        self.again_at = now if lost else now + AGAIN[min(self._failures, len(AGAIN)) - 1]
        return Failed(lost)

    def find_overdue(self, limit: float, now: float) -> bool:
        """Mark all GPUs unwatched if the wait is older than *limit* seconds; True if newly marked.

        The waiting thread can be neither ended nor replaced. If its wait returns after all, the
        GPUs are watched again.
        """
        late = self._thread is not None and now - self._thread.entered > limit
        if not late or STUCK in self.unwatched.values():
            return False
        self.unwatched = {**dict.fromkeys(self._watched, STUCK), **self.unwatched}
        return True

    def follow(self, gpus: frozenset[str], now: float) -> Failed | None:
        """Start to watch *gpus* if they are not watched yet; return the failure, if any."""
        if (self._thread and gpus == self._watched) or (self.again_at or 0.0) > now:
            return None
        self.end()
        self.again_at = None
        self._watched = gpus
        if not gpus:
            return None
        try:
            events = self._nvml.event_set()
        except NvmlError as error:
            if self.is_new(error) and error.code not in UNSUPPORTED:
                logger.warning("cannot create an NVML event set; retrying", error=str(error))
            return self.on_failed(now, error.code)
        lost = tuple(uuid for uuid in sorted(gpus) if not self._register(uuid, events))
        self._thread = EventThread(self._nvml, events)
        self._thread.start()
        watched = gpus - {*lost} - self.unwatched.keys() - self.unsupported
        logger.info("watching GPUs for Xid events", gpus=len(watched))
        return Failed(lost) if lost else None

    def _register(self, uuid: str, events: object) -> bool:
        """Register a GPU on the event set; return False if the GPU is lost."""
        try:
            self._nvml.register(self._handles[uuid], events)
        except NvmlError as error:
            if error.code in UNSUPPORTED:
                self.unsupported |= {uuid}
                return True
            reason = Reason(ReasonKind.UNWATCHED, f"NVML error {error.code}")
            if self.unwatched.get(uuid) != reason:  # else logged at an earlier attempt
                logger.warning("cannot watch a GPU for Xid events", uuid=uuid, error=str(error))
            if error.code == Code.GPU_IS_LOST:
                return False
            self.unwatched[uuid] = reason
            return True
        if self.unwatched.get(uuid) not in {BLIND, STUCK}:  # only a successful wait clears these
            self.unwatched.pop(uuid, None)
        return True

    def end(self) -> None:
        """End the wait, if one runs."""
        if self._thread:
            self._thread.end()
            self._thread = None
