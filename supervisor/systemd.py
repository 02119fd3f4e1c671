"""Tell systemd how the service stands: sd_notify(3), which is datagrams of KEY=VALUE lines.

Nothing here blocks: what systemd does not take is dropped, and comes again with the next.
"""

import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """The way to systemd, if it has started us; else it says nothing."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        # Taken away, so that no child is taken for us.
        address = environment.pop("NOTIFY_SOCKET", "")
        self._watched = bool(environment.pop("WATCHDOG_USEC", ""))
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._told = ""

    def tell(self, status: str, *, ready: bool) -> None:
        """Give a sign of life to the watchdog, and tell what is new."""
        text = f"READY=1\nSTATUS={status}" if ready else f"STATUS={status}"
        if self._watched:
            self._send("WATCHDOG=1")
        if text != self._told and self._send(text):
            self._told = text

    def stopping(self) -> None:
        """Tell that the service ends."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, text: str) -> bool:
        if not self._address:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as end:
            try:
                return end.sendto(text.encode(), self._address) > 0
            except OSError:
                return False
