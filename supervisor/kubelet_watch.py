"""Notice a kubelet that was restarted: its socket is a new file."""

import contextlib
import os
from pathlib import Path

from inotify_simple import INotify, flags
from loguru import logger

from proto.host import Identity

EVENTS = flags.CREATE | flags.MOVED_TO

PAUSE = 0.01
"""Seconds until the next look at the kubelet's folder, however many files are created in it."""

UNREAD = 1 << 20
"""Bytes to read at once, more than the kernel keeps; what the events say does not matter."""


class KubeletWatch:
    """Watches the kubelet's folder with inotify; without inotify, the loop checks every second."""

    def __init__(self, kubelet_socket: str) -> None:
        self._socket = kubelet_socket
        self._folder = str(Path(kubelet_socket).parent)
        self._known = Identity.of(kubelet_socket)
        self._rests_until = 0.0
        try:
            self._inotify = INotify(nonblocking=True) if kubelet_socket else None
        except OSError as error:  # the node's inotify instances are used up
            logger.warning("cannot use inotify, checking every second", error=str(error))
            self._inotify = None
        self._watch_folder()

    def close(self) -> None:
        """Stop watching."""
        if self._inotify:
            self._inotify.close()
            self._inotify = None

    def sources(self, now: float) -> list[int]:
        """Return the descriptor that becomes readable on a change, unless it is too early."""
        return [self._inotify.fileno()] if self._inotify and now >= self._rests_until else []

    def deadline(self, now: float) -> float | None:
        """Return when to wait for changes again; None: at once."""
        return self._rests_until if now < self._rests_until else None

    def noticed(self, ready: set[object], now: float) -> bool:
        """Return whether the kubelet's folder changed; then it is too early for a while."""
        if not ready.intersection(self.sources(now)):
            return False
        self._rests_until = now + PAUSE
        return True

    def is_new(self) -> bool:
        """Return whether the kubelet's socket is there and changed since the last call."""
        if not self._socket:
            return False
        self._watch_folder()
        before, self._known = self._known, Identity.of(self._socket)
        return self._known is not None and self._known != before

    def _watch_folder(self) -> None:
        """Watch the folder again: it may have been deleted and created since the last call."""
        if not self._inotify:
            return
        with contextlib.suppress(BlockingIOError):
            os.read(self._inotify.fileno(), UNREAD)
        with contextlib.suppress(OSError):
            self._inotify.add_watch(self._folder, EVENTS)
