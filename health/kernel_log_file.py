"""Read a kernel log that is a file in a thread of its own: a dead network share blocks only that.

The device /dev/kmsg never blocks, so the monitor's loop reads it itself.
"""

import math
import os
import threading
import time
from collections import deque

import zmq

from health.kernel_log import Event
from health.kernel_log_reader import KMSG, MOST_EVENTS, PAUSE, KernelLog

MOST_WAITING = 1000
"""Events that wait for the loop; the thread reads no more meanwhile."""


class FileLog:
    """The events of a text file or a fifo, read by a thread; used like a `KernelLog`."""

    def __init__(self, path: str, after: int | None) -> None:
        self._path = path
        self._after = after
        self._log: KernelLog | None = None
        """Only the thread uses it; None: the file has not been opened yet."""
        self._waiting: deque[tuple[Event, int | None]] = deque()
        """Events, each with the number of the newest record then."""
        self._room = threading.Condition()
        self._closed = False
        self._due = math.inf
        self.newest = after
        """The number of the newest record that gave an event of those that were returned."""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        threading.Thread(target=self._follow, name="kernel log", daemon=True).start()

    @property
    def readable(self) -> bool:
        """Whether the file is open."""
        return self._log is not None and self._log.readable

    @property
    def lost(self) -> int:
        """Records that were overwritten before they were read."""
        return self._log.lost if self._log else 0

    def wait(self) -> tuple[int | None, float]:
        """Return the descriptor to wait for before the next `read`, and the time."""
        return self._bell, self._due

    def read(self, now: float) -> list[Event]:
        """Return the next events, in order; not all if there are many."""
        events: list[Event] = []
        with self._room:
            while self._waiting and len(events) < MOST_EVENTS:
                event, self.newest = self._waiting.popleft()
                events.append(event)
            if not self._waiting:
                _silence(self._bell)
            self._due = now + PAUSE if self._waiting else math.inf
            self._room.notify()
        return events

    def close(self) -> None:
        """Read nothing from now on."""
        with self._room:
            self._closed = True
            self._waiting.clear()
            self._room.notify()

    def _follow(self) -> None:
        log = self._log = KernelLog(self._path, self._after)
        while log.readable and not self._closed:
            descriptor, due = log.wait()
            poller = zmq.Poller()
            if descriptor is not None:
                poller.register(descriptor, zmq.POLLIN)
            pause = 1.0 if due == math.inf else max(0.0, due - time.monotonic())
            poller.poll(math.ceil(pause * 1000))
            self._put([(event, log.newest) for event in log.read(time.monotonic())])

    def _put(self, events: list[tuple[Event, int | None]]) -> None:
        with self._room:
            self._waiting.extend(events)
            if events:
                os.eventfd_write(self._bell, 1)
            self._room.wait_for(lambda: self._closed or len(self._waiting) < MOST_WAITING)


def open_log(path: str, after: int | None) -> KernelLog | FileLog:
    """Return the kernel log at *path*, read since the record *after*; empty: there is none."""
    direct = not path or path == KMSG
    return KernelLog(path, after) if direct else FileLog(path, after)


def _silence(bell: int) -> None:
    try:
        os.eventfd_read(bell)
    except BlockingIOError:
        return
