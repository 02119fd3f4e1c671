"""Notice a kubelet that was restarted: its socket is a new file."""

import contextlib
from pathlib import Path

from inotify_simple import INotify, flags
from loguru import logger

from proto.host import Identity

EVENTS = flags.CREATE | flags.MOVED_TO


class KubeletWatch:
    """Watches the kubelet's folder with inotify; without inotify, the loop checks every second."""

    def __init__(self, kubelet_socket: str) -> None:
        self._socket = kubelet_socket
        self._folder = str(Path(kubelet_socket).parent)
        self._known = Identity.of(kubelet_socket)
        try:
            self._inotify = INotify(nonblocking=True) if kubelet_socket else None
        except OSError as error:  # the node's inotify instances are used up
            logger.warning("cannot use inotify, checking every second", error=str(error))
            self._inotify = None
        self._watch_folder()

    def fileno(self) -> int | None:
        """Return the descriptor that becomes readable on a change; None without inotify."""
        return self._inotify.fileno() if self._inotify else None

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
        with contextlib.suppress(OSError):
            self._inotify.read(timeout=0)
            self._inotify.add_watch(self._folder, EVENTS)
