"""The messages of a ZeroMQ socket, for an asyncio loop.

zmq.asyncio does the same for all uses of a socket, and takes several times as long for a message.
"""

import asyncio

import zmq

READABLE = int(zmq.POLLIN)


class Inbox:
    """Receives the messages of *socket*; one task at a time may wait for the next one."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._descriptor = socket.fileno()
        self._waiting: asyncio.Future[None] | None = None

    def close(self) -> None:
        """Close the socket; no task may be waiting."""
        self._socket.close()

    async def next(self) -> bytes:
        """Return the next message, as soon as there is one."""
        while True:
            # Always first: the descriptor only tells of what arrives after a call that found none.
            try:
                return self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                await self._signalled()

    def look(self) -> None:
        """Look for messages: call it after any other use of the socket.

        Each use takes the signals off the descriptor, and that of a new message with them.
        """
        if self._waiting and int(self._socket.get(zmq.EVENTS)) & READABLE:
            self._wake()

    async def _signalled(self) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        loop.add_reader(self._descriptor, self._wake)
        try:
            await self._waiting
        finally:
            self._waiting = None
            loop.remove_reader(self._descriptor)

    def _wake(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)
