"""The ZeroMQ sockets of the bus, with every option that matters decided once.

The monitor binds the health socket, workers and exporter connect to it.
The exporter binds the telemetry socket, workers connect to it.
So whoever is one binds, whoever are many connect, and either side may restart.
A binder whose socket file is gone ends, for a successor that makes a new one.
"""

from collections.abc import AsyncIterator

import zmq
import zmq.asyncio

from proto.host import Identity
from proto.messages import NodeState, WorkerState, decode, encode

RECONNECT = 10
RECONNECT_MAX = 1000
"""Milliseconds between attempts to reach a binder that is away, doubling."""

JOINED = b"\x01"
"""How ZeroMQ begins the message that tells of a new subscriber."""


def _prepare(socket: "zmq.Socket[bytes] | zmq.asyncio.Socket") -> None:
    # Never wait at exit for a peer that is gone.
    socket.linger = 0
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX)


class HealthPublisher:
    """The monitor's end: publishes NodeStates and notices who joins."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", path: str) -> None:
        self.socket = context.socket(zmq.XPUB)
        _prepare(self.socket)
        _announce_all(self.socket)
        self.socket.bind(f"ipc://{path}")
        self._path = path
        self._identity = Identity.of(path)

    def reachable(self) -> bool:
        """Return whether the socket's file is still there, for those who have yet to join."""
        return Identity.of(self._path) == self._identity

    def publish(self, state: NodeState) -> None:
        """Send *state* to all who have joined."""
        self.socket.send(encode(state))

    def joined(self) -> bool:
        """Return whether anybody has joined since the last call."""
        joined = False
        while self.socket.poll(0):
            joined |= self.socket.recv(zmq.NOBLOCK).startswith(JOINED)
        return joined


class TelemetryPublisher:
    """A worker's end: publishes WorkerStates and notices when the exporter joins."""

    def __init__(self, context: zmq.asyncio.Context, path: str) -> None:
        self._socket = context.socket(zmq.XPUB)
        _prepare(self._socket)
        _announce_all(self._socket)
        self._socket.connect(f"ipc://{path}")

    def publish(self, state: WorkerState) -> None:
        """Send *state* to the exporter, if it is there."""
        # Without waiting: a publisher drops what cannot go out.
        self._socket.send(encode(state), zmq.NOBLOCK)

    async def joined(self) -> None:
        """Wait until the exporter joins."""
        while not (await self._socket.recv()).startswith(JOINED):
            pass


def _announce_all(socket: "zmq.Socket[bytes] | zmq.asyncio.Socket") -> None:
    """Have each subscriber announced, also a second one and one that comes back after a crash."""
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)


def health_subscriber(context: zmq.asyncio.Context, path: str) -> zmq.asyncio.Socket:
    """Return a socket on which NodeStates arrive."""
    socket = context.socket(zmq.SUB)
    _prepare(socket)
    socket.subscribe(b"")
    socket.connect(f"ipc://{path}")
    return socket


def telemetry_subscriber(context: zmq.asyncio.Context, path: str) -> zmq.asyncio.Socket:
    """Return a socket on which the WorkerStates of all workers arrive."""
    socket = context.socket(zmq.SUB)
    _prepare(socket)
    socket.subscribe(b"")
    socket.bind(f"ipc://{path}")
    return socket


async def receive(socket: zmq.asyncio.Socket) -> NodeState | WorkerState:
    """Return the next message that can be read."""
    while True:
        state = decode(await socket.recv())
        if state is not None:
            return state


async def node_states(socket: zmq.asyncio.Socket) -> AsyncIterator[NodeState]:
    """Yield each NodeState that is newer than all before; an abandoned monitor's are older."""
    newest = (0, 0)
    while True:
        state = await receive(socket)
        if isinstance(state, NodeState) and state.age > newest:
            newest = state.age
            yield state
