"""Wait for NVML events in a separate thread, because nothing can interrupt that wait."""

import os
import threading
import time
from collections import deque

from health.nvml import Hint, Nvml, NvmlError, XidEvent

SLICE = 500
"""Longest wait in milliseconds; the thread ends at most this long after end() is called."""


LATE = 2.0
"""Seconds after which the return of a wait is reported, as it may have counted as hung."""


class Watching:
    """Reports that the first wait on an event set, or a late one, returned without an error."""


Sight = XidEvent | Hint | NvmlError | Watching


class EventThread(threading.Thread):
    """An event set and the only thread that waits on it; the thread ends after an error."""

    def __init__(self, nvml: Nvml, events: object) -> None:
        super().__init__(name="watcher", daemon=True)
        self._nvml = nvml
        self._events = events
        self._sights: deque[Sight] = deque()
        self._ending = threading.Event()
        self.entered = time.monotonic()
        """When the current wait began, on the monotonic clock."""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the file descriptor that is readable while sights are queued."""
        return self._wake

    def run(self) -> None:
        """Wait for events until an error or end(); queue every event in order."""
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
        """Return the sights since the last call, in order."""
        os.eventfd_read(self._wake)
        sights = []
        while self._sights:
            sights.append(self._sights.popleft())
        return sights

    def end(self) -> bool:
        """End the thread and free the event set; return False if the driver holds the thread up."""
        self._ending.set()
        self.join(2 * SLICE / 1000)
        if self.is_alive():
            return False  # freeing a set during a wait on it would crash NVML
        os.close(self._wake)
        try:
            self._nvml.free(self._events)
        except NvmlError:
            return False
        return True
