"""Accepts connections faster than clients can make them, and answers probes at once.

asyncio's own server makes a transport and a protocol for each connection. This costs so much that a
flood of connections fills the kernel's queue, where no probe gets through.
"""

import asyncio
import errno
import functools
import socket
import time
from collections.abc import Callable
from typing import Self

from loguru import logger

from supervisor.exporter.crowd import Crowd, Visitor
from supervisor.exporter.quick import LONGEST
from supervisor.exporter.turns import Turns

BACKLOG = 4096
"""Connections that the kernel keeps for us."""

AT_ONCE = 256
"""Connections to accept in a turn of the loop."""

LET_IN_AT_ONCE, HANDSHAKES_AT_ONCE = 8, 2
"""Connections to make transports for in a turn of the loop: with HTTP in clear, and with TLS."""

ESTABLISHED = 1
"""The state of a connection that both sides have open: TCP_ESTABLISHED of linux/tcp_states.h."""

PAUSE = 0.1
"""Seconds until the next try after accept() failed, mostly for want of descriptors."""


def source_of(address: str) -> str:
    """Return the part of an IP address that one client cannot change: of IPv6, the network."""
    if ":" not in address or address.startswith("::ffff:"):
        return address
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex()


def _has_left(end: socket.socket) -> bool:
    """Return whether the client has ended its side, before what it has sent is read."""
    state: int = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state != ESTABLISHED


class Door:
    """Owns a listening socket, and the connections that have not sent anything yet."""

    def __init__(
        self,
        listener: socket.socket,
        crowd: Crowd,
        make: Callable[[str], asyncio.Protocol],
        patience: float,
        quick: Callable[[bytes], bytes] | None,
    ) -> None:
        """Let in who sends something within *patience* seconds; *make* is given the source.

        With *quick*, HTTP is in clear, and it returns the whole answer to a whole probe.
        """
        self._listener = listener
        self._crowd = crowd
        self._make = make
        self._patience = patience
        self._quick = quick
        self._loop = asyncio.get_running_loop()
        self._turns = Turns(LET_IN_AT_ONCE if quick else HANDSHAKES_AT_ONCE)
        self._entering: set[asyncio.Task[None]] = set()
        self._failed = False
        listener.setblocking(False)
        listener.listen(BACKLOG)
        self._loop.add_reader(listener, self._accept)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                end, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._rest(error)
                return
            self._failed = False
            end.setblocking(False)
            # The kernel too shall not wait longer for a client that does not read.
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._patience * 1000))
            client = Visitor(source_of(address[0]), time.monotonic(), end.close)
            self._look(end, client)

    def _look(self, end: socket.socket, client: Visitor) -> None:
        """Look at what a client sends, without reading it: answer a probe, let in all others."""
        try:
            data = end.recv(LONGEST, socket.MSG_PEEK)
            if data and not self._answers(end, data):
                self._crowd.enter(client)
                work = functools.partial(self._let_in, end, client)
                self._turns.add(client.source, work)
                return
        except BlockingIOError:
            self._wait(end, client)
            return
        except OSError:
            pass  # the client has left, as it has if there is no data
        end.close()

    def _answers(self, end: socket.socket, data: bytes) -> bool:
        if self._quick and (answer := self._quick(data)):
            end.recv(len(data))  # with unread data, close() would take the answer back
            end.send(answer)
            return True
        return False

    def _wait(self, end: socket.socket, client: Visitor) -> None:
        """Look again when the client sends something; hang up if it does not."""

        def stop() -> None:
            deadline.cancel()
            self._loop.remove_reader(end)

        def hang_up() -> None:
            stop()
            self._crowd.leave(client)
            end.close()

        def look() -> None:
            stop()
            self._crowd.leave(client)
            client.hang_up = end.close
            self._look(end, client)

        deadline = self._loop.call_later(self._patience, hang_up)
        self._loop.add_reader(end, look)
        client.hang_up = hang_up
        self._crowd.enter(client)

    def _let_in(self, end: socket.socket, client: Visitor) -> bool:
        if client not in self._crowd:
            return False
        self._crowd.leave(client)
        if not self._quick and _has_left(end):
            end.close()
            return False
        task = self._loop.create_task(self._connect(end, client.source))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)
        return True

    async def _connect(self, end: socket.socket, source: str) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._make(source), end)
        except OSError:
            end.close()

    def _rest(self, error: OSError) -> None:
        if error.errno == errno.ECONNABORTED:
            return  # the client has left already
        if not self._failed:
            logger.warning("cannot accept HTTP connections, retrying", error=error.strerror)
        self._failed = True
        self._loop.remove_reader(self._listener)
        self._loop.call_later(PAUSE, self._open_again)
        self._crowd.make_room(len(self._crowd) // 2, time.monotonic())

    def _open_again(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)
