"""The ZeroMQ sockets of the bus, with every option that matters decided once.

The monitor binds the health socket, workers and exporter connect to it.
The exporter binds the telemetry socket, workers connect to it.
So whoever is one binds, whoever are many connect, and either side may restart.
"""

import zmq
import zmq.asyncio

from proto.messages import NodeState, State, WorkerState, decode, encode

RECONNECT = 50
"""Milliseconds between attempts to reach a binder that is away."""


def _prepare(socket: "zmq.Socket[bytes] | zmq.asyncio.Socket") -> None:
    # Never wait at exit for a peer that is gone.
    socket.linger = 0
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT)


class HealthPublisher:
    """The monitor's end: publishes NodeStates and notices who joins."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", path: str) -> None:
        self.socket = context.socket(zmq.XPUB)
        _prepare(self.socket)
        # Without it a subscriber that comes back after a crash, or a second one, is not announced.
        self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.socket.bind(f"ipc://{path}")

    def publish(self, state: NodeState) -> None:
        """Send *state* to all who have joined."""
        self.socket.send(encode(state))

    def joined(self) -> bool:
        """Return whether anybody has joined since the last call."""
        joined = False
        while self.socket.poll(0):
            joined |= self.socket.recv(zmq.NOBLOCK).startswith(b"\x01")
        return joined


class TelemetryPublisher:
    """A worker's end: publishes WorkerStates."""

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", path: str) -> None:
        self._socket = context.socket(zmq.PUB)
        _prepare(self._socket)
        self._socket.connect(f"ipc://{path}")

    def publish(self, state: State) -> None:
        """Send *state* to the exporter, if it is there."""
        self._socket.send(encode(state))


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
