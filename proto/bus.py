"""The ZeroMQ sockets of the bus, with all their options set in one place.

The monitor binds the health socket; workers, exporter and cluster process connect to it.
The exporter binds the telemetry socket; workers connect to it.
In the tree of the MPS daemons, its bus process binds both: keepers connect to the one, the plugin's
processes to the other.
The single process binds and the many connect, so either side may restart.
A process that binds a socket exits when the socket file is gone; its successor binds a new one.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import zmq

from proto.folder import Folder
from proto.host import Identity
from proto.inbox import Inbox
from proto.messages import (
    MpsState,
    NodeState,
    State,
    UsageState,
    WorkerState,
    decode,
    encode,
    topic,
)

RECONNECT = 10
RECONNECT_MAX = 1000
"""Milliseconds between two attempts to connect, from the first to the longest, doubling."""

Context = zmq.Context["zmq.Socket[bytes]"]

JOINED = b"\x01"
"""First byte of ZeroMQ's message about a new subscriber."""


def _endpoint(path: str) -> str:
    """Return the endpoint of the socket at *path*; UnsafeError if others can change its folder.

    The folder stays open for the life of this process, as ZeroMQ connects to the endpoint again.
    """
    file = Path(path)
    return f"ipc://{Folder.existing(file.parent).at(file.name)}"


def _prepare(socket: "zmq.Socket[bytes]") -> None:
    # Never wait at exit for a peer that has ended.
    socket.linger = 0
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX)


class HealthPublisher:
    """The monitor's end: publishes NodeStates and UsageStates, and notices new subscribers."""

    def __init__(self, context: Context, path: str) -> None:
        self.socket = context.socket(zmq.XPUB)
        _prepare(self.socket)
        _announce_all(self.socket)
        self.socket.bind(_endpoint(path))
        self._path = path
        self._identity = Identity.of(path)

    def reachable(self) -> bool:
        """Return whether the socket file still exists, so that new subscribers can connect."""
        return Identity.of(self._path) == self._identity

    def publish(self, state: NodeState | UsageState) -> None:
        """Send *state* to all subscribers that want this kind of message."""
        self.socket.send(encode(state))

    def joined(self) -> bool:
        """Return whether a subscriber joined since the last call."""
        joined = False
        while self.socket.poll(0):
            joined |= self.socket.recv(zmq.NOBLOCK).startswith(JOINED)
        return joined


class TelemetryPublisher:
    """A worker's or keeper's end: publishes its state and notices when a receiver subscribes."""

    def __init__(self, context: Context, path: str) -> None:
        self._socket = context.socket(zmq.XPUB)
        _prepare(self._socket)
        _announce_all(self._socket)
        self._socket.connect(_endpoint(path))
        self._inbox = Inbox(self._socket)

    def publish(self, state: WorkerState | MpsState) -> None:
        """Send *state* to the receiver, if it is connected."""
        # Never wait: ZeroMQ drops a message that it cannot send.
        self._socket.send(encode(state), zmq.NOBLOCK)
        self._inbox.look()

    async def joined(self) -> None:
        """Wait until the receiver subscribes."""
        while not (await self._inbox.next()).startswith(JOINED):
            pass


def _announce_all(socket: "zmq.Socket[bytes]") -> None:
    """Make ZeroMQ report every subscriber, also a second one or one that reconnects."""
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)


def health_subscriber(context: Context, path: str, *, usage: bool = False) -> Inbox:
    """Return an inbox that receives NodeStates, and UsageStates too if *usage* is true."""
    socket = context.socket(zmq.SUB)
    _prepare(socket)
    for kind in (NodeState, UsageState) if usage else (NodeState,):
        socket.subscribe(topic(kind))
    socket.connect(_endpoint(path))
    return Inbox(socket)


def telemetry_subscriber(context: Context, path: str) -> Inbox:
    """Return an inbox that receives the WorkerStates of all workers."""
    socket = context.socket(zmq.SUB)
    _prepare(socket)
    socket.subscribe(b"")
    socket.bind(_endpoint(path))
    return Inbox(socket)


async def receive(inbox: Inbox) -> State:
    """Return the next message, skipping those that this version cannot read."""
    while True:
        state = decode(await inbox.next())
        if state is not None:
            return state


async def node_states(inbox: Inbox) -> AsyncIterator[NodeState]:
    """Yield each NodeState newer than all before; this skips states of an abandoned monitor."""
    async for state in monitor_states(inbox):
        if isinstance(state, NodeState):
            yield state


async def monitor_states(inbox: Inbox) -> AsyncIterator[NodeState | UsageState]:
    """Yield each NodeState and UsageState that is newer than all of its kind before."""
    newest: dict[type[State], tuple[int, int]] = {}
    while True:
        state = await receive(inbox)
        if not isinstance(state, NodeState | UsageState):
            continue
        if state.age > newest.get(type(state), (0, 0)):
            newest[type(state)] = state.age
            yield state


class MpsPublisher:
    """The end of the MPS daemons' tree: publishes MpsStates, and notices new subscribers."""

    def __init__(self, context: Context, path: str) -> None:
        self._socket = context.socket(zmq.XPUB)
        _prepare(self._socket)
        _announce_all(self._socket)
        self._socket.bind(_endpoint(path))
        self._inbox = Inbox(self._socket)
        self._path = path
        self._identity = Identity.of(path)

    def reachable(self) -> bool:
        """Return whether the socket file still exists, so that new subscribers can connect."""
        return Identity.of(self._path) == self._identity

    def publish(self, state: MpsState) -> None:
        """Send *state* to all subscribers; never wait for one."""
        self._socket.send(encode(state), zmq.NOBLOCK)
        self._inbox.look()

    async def joined(self) -> None:
        """Wait until a subscriber joins."""
        while not (await self._inbox.next()).startswith(JOINED):
            pass


class MpsSubscriber:
    """Receives the MpsStates of the node while it is switched on; it starts switched off.

    With an empty path it cannot be switched on.
    """

    def __init__(self, context: Context, path: str) -> None:
        self._socket = context.socket(zmq.SUB)
        _prepare(self._socket)
        self._socket.subscribe(topic(MpsState))
        self._inbox = Inbox(self._socket)
        self._endpoint = _endpoint(path) if path else ""

    def switch(self, *, on: bool) -> None:
        """Connect to the socket, also one that is created later; or else disconnect from it."""
        if on:
            self._socket.connect(self._endpoint)
        else:
            self._socket.disconnect(self._endpoint)
        self._inbox.look()

    async def states(self) -> AsyncIterator[MpsState]:
        """Yield each MpsState.

        Also one with a lower epoch: the tree of the MPS daemons is started again by others than
        this service, and then counts anew.
        """
        while True:
            state = await receive(self._inbox)
            if isinstance(state, MpsState):
                yield state
