"""Where operators' requests arrive: a socket in the runtime folder, which never blocks."""

import contextlib
import os
import socket
import struct
from pathlib import Path

from loguru import logger

from proto import requests
from proto.host import Identity
from proto.requests import Answer, Request

CLIENTS = 8
"""Open connections, at most; the oldest gives way."""


class Client:
    """One connection, for one request and its answer."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def fileno(self) -> int:
        """Return the descriptor, to wait on."""
        return self._end.fileno()

    def permitted(self) -> bool:
        """Return whether it is root, or who we are, that asks."""
        size = struct.calcsize("3i")
        credentials = self._end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return struct.unpack("3i", credentials)[1] in {0, os.geteuid()}

    def receive(self) -> bytes:
        """Return what was sent; nothing when the client has hung up."""
        try:
            return self._end.recv(requests.LIMIT)
        except OSError:
            return b""

    def answer(self, answer: Answer) -> None:
        """Send the *answer*, if anybody still waits for it, and hang up."""
        with contextlib.suppress(OSError):
            self._end.send(requests.encode(answer))
        self._end.close()


def _listener(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.setblocking(False)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(CLIENTS)
    except OSError:
        listener.close()
        raise
    return listener


class ControlSocket:
    """The socket and those who are connected to it."""

    def __init__(self, folder: Path) -> None:
        """Listen in *folder*, of which we have the lock; OSError where that cannot be."""
        self._path = folder / requests.SOCKET
        self._listener = _listener(self._path)
        self._identity = Identity.of(str(self._path))
        self._problem = ""
        self._clients: list[Client] = []

    def tend(self) -> None:
        """Listen anew if somebody has taken the socket away, as cleaners of /run do."""
        if Identity.of(str(self._path)) == self._identity:
            return
        try:
            listener = _listener(self._path)
        except OSError as error:
            if str(error) != self._problem:
                logger.warning("cannot listen on the control socket, retrying", error=str(error))
            self._problem = str(error)
            return
        self._problem = ""
        logger.warning("control socket was deleted, created it again", path=str(self._path))
        self._listener.close()
        self._listener, self._identity = listener, Identity.of(str(self._path))

    def sources(self) -> list[object]:
        """Return what to wait on."""
        return [self._listener, *self._clients]

    def take(self, ready: set[object]) -> list[tuple[Client, Request]]:
        """Return the requests of those who are *ready*; who asks is answered by the caller."""
        found = []
        for client in [one for one in self._clients if one in ready]:
            self._clients.remove(client)
            request = requests.decode(client.receive())
            if request is None:
                client.answer(Answer("cannot understand the request: use the same version"))
            else:
                found.append((client, request))
        if self._listener in ready:
            self._accept()
        return found

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            client = Client(self._listener.accept()[0])
            if not client.permitted():
                logger.warning("refused a request: its user is neither root nor the service's")
                error = "cannot accept the request: only root or the service's user may send it"
                client.answer(Answer(error))
                return
            self._clients.append(client)
        if len(self._clients) > CLIENTS:
            self._clients.pop(0).answer(Answer("cannot wait for the request: too many clients"))
