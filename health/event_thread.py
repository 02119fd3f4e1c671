"""Wait for the driver's events in a thread of its own, as nothing can interrupt that wait."""

import os
import threading
import time
from collections import deque

from health.nvml import Hint, Nvml, NvmlError, XidEvent

SLICE = 500
"""Milliseconds that one wait may last: the thread ends that long after it is asked to, at most."""


LATE = 2.0
"""Seconds after which the return of a wait is news."""


class Watching:
    """The first wait on an event set, or one that was late, went well."""


Sight = XidEvent | Hint | NvmlError | Watching


class EventThread(threading.Thread):
    """An event set and the one thread that may wait on it; an error is its last sight."""

    def __init__(self, nvml: Nvml, events: object) -> None:
        super().__init__(name="watcher", daemon=True)
        self._nvml = nvml
        self._events = events
        self._sights: deque[Sight] = deque()
        self._ending = threading.Event()
        self.entered = time.monotonic()
        """When the wait that runs now was begun."""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor that is readable while there is something seen."""
        return self._wake

    def run(self) -> None:
        """Wait until an error or the end; every event is kept, in order."""
        watching = False
        while not self._ending.is_set():
            self.entered = time.monotonic()
            try:
                event = self._nvml.wait(self._events, SLICE)
            except NvmlError as error:
                self._see(error)
                return
            if event is not None:
                self._see(event)
            if not watching or time.monotonic() - self.entered > LATE:
                watching = True
                self._see(Watching())

    def _see(self, sight: Sight) -> None:
        self._sights.append(sight)
        os.eventfd_write(self._wake, 1)

    def seen(self) -> list[Sight]:
        """Return what was seen since the last call."""
        os.eventfd_read(self._wake)
        sights = []
        while self._sights:
            sights.append(self._sights.popleft())
        return sights

    def end(self) -> bool:
        """Let the thread end and free the event set; False if it is held up in the driver."""
        self._ending.set()
        self.join(2 * SLICE / 1000)
        if self.is_alive():
            return False  # freeing a set that is waited on would crash the driver's library
        os.close(self._wake)
        try:
            self._nvml.free(self._events)
        except NvmlError:
            return False
        return True
