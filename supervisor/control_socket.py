"""The control socket in the runtime folder, which takes operators' requests; never blocks."""

import contextlib
import os
import socket
import struct
from pathlib import Path

from loguru import logger

from proto import requests
from proto.folder import Folder
from proto.host import Identity
from proto.requests import Answer, Request

CLIENTS = 8
"""Most open connections; one more closes the oldest."""


class Client:
    """One client's connection, for one request and its answer."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._end.fileno()

    def permitted(self) -> bool:
        """Return whether the client is root or the user of this service."""
        size = struct.calcsize("3i")
        credentials = self._end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return struct.unpack("3i", credentials)[1] in {0, os.geteuid()}

    def receive(self) -> bytes:
        """Return the bytes that were sent; empty if the client closed the connection."""
        try:
            return self._end.recv(requests.LIMIT)
        except OSError:
            return b""

    def answer(self, answer: Answer) -> None:
        """Send the *answer*, if the client still waits for it, and close the connection."""
        with contextlib.suppress(OSError):
            self._end.send(requests.encode(answer))
        self._end.close()


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.setblocking(False)
        with Folder.existing(path.parent) as folder:
            folder.remove(path.name)
            listener.bind(folder.at(path.name))
            Path(folder.at(path.name)).chmod(0o600)
        listener.listen(CLIENTS)
    except OSError:
        listener.close()
        raise
    return listener


class ControlSocket:
    """The listening socket and its clients."""

    def __init__(self, folder: Path) -> None:
        """Listen in *folder*, which this process has locked; OSError if that fails."""
        self._path = folder / requests.SOCKET
        self._listener = _listener(self._path)
        self._identity = Identity.of(str(self._path))
        self._problem = ""
        self._clients: list[Client] = []

    def tend(self) -> None:
        """Create the socket again if something deleted it, as cleaners of /run do."""
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
        """Return what the loop has to wait for."""
        return [self._listener, *self._clients]

    def take(self, ready: set[object]) -> list[tuple[Client, Request]]:
        """Return the requests of the clients that are *ready*; the caller answers them."""
        found = []
        for client in [client for client in self._clients if client in ready]:
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
                logger.warning(
                    "refused a request: the sender is neither root nor the service's user"
                )
                error = "cannot accept the request: only root or the service's user may send it"
                client.answer(Answer(error))
                return
            self._clients.append(client)
        if len(self._clients) > CLIENTS:
            self._clients.pop(0).answer(Answer("cannot wait for the request: too many clients"))
