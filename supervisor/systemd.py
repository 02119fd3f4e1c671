"""Report the state of the service to systemd: sd_notify(3), datagrams of KEY=VALUE lines.

Nothing here blocks: a message that systemd does not take is dropped and sent again later.
"""

import os
import socket
from collections.abc import MutableMapping

from proto.texts import shortened

LIMIT = 4096
"""Bytes of the longest notification; systemd drops a longer one."""


class Notifier:
    """Sends notifications to systemd; does nothing if systemd did not start this process."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        # Removed, so that no child process notifies systemd in our name.
        address = environment.pop("NOTIFY_SOCKET", "")
        self._watched = bool(environment.pop("WATCHDOG_USEC", ""))
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._told = ""

    def tell(self, status: str, *, ready: bool) -> None:
        """Feed systemd's watchdog, and send the *status* and readiness if they changed.

        The status is one line of limited length: systemd reads each line as a command of its own,
        and drops a message of more than 4096 bytes with the readiness in it.
        """
        status = shortened(status)
        text = f"READY=1\nSTATUS={status}" if ready else f"STATUS={status}"
        if self._watched:
            self._send("WATCHDOG=1")
        if text != self._told and self._send(text):
            self._told = text

    def stopping(self) -> None:
        """Notify systemd that the service is stopping."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, text: str) -> bool:
        if not self._address:
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as end:
            try:
                return end.sendto(text.encode(), self._address) > 0
            except OSError:
                return False
