"""The servers of the stand-in for the MPS control daemon, and the clients that wait for them."""

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from simulator.mps import server as server_process
from simulator.mps import titles
from simulator.mps.state import ACTIVE, FAULT, INITIALIZING, KnownClient, KnownServer, SetLimits
from simulator.mps.steering import Steering

CONTEXTS = 2
"""Of a client at its server; each has a thread there."""

FIRST_DELAY = 0.2
"""Seconds until the daemon tells a server with clients to end again; they double each time."""

ATTEMPTS = 5
"""Servers that are started for a client before it is refused."""

CONNECTION_FAILED, NOT_READY = 805, 807
"""CUDA errors."""

Say = Callable[[str], None]


class Roster:
    """Starts servers, hands clients to them, and notices their ends."""

    def __init__(self, say: Say, steering: Steering, pipe: str, *, multi_user: bool) -> None:
        self.servers: dict[int, KnownServer] = {}
        self.closed = False
        """The daemon quits: nobody gets a server."""
        self.events: dict[int, Callable[[], None]] = {}
        """What to do when a descriptor can be read."""
        self._turn = 0
        self._say = say
        self._steering = steering
        self._pipe = pipe
        self._multi_user = multi_user
        self._pending: list[KnownClient] = []
        self._failures = 0

    def react(self, ready: Iterable[int]) -> None:
        """Do what there is to do about these descriptors, which can be read.

        What is done about one may close another, and open a new one with the same number. It may
        also wait for a server, and serve the others meanwhile: they must not be read once more.
        """
        turn = self._turn = self._turn + 1
        for descriptor, react in [(each, self.events.get(each)) for each in ready]:
            if react is not None and self.events.get(descriptor) is react and self._turn == turn:
                react()

    def start(self, uid: int, defaults: SetLimits) -> KnownServer:
        """Start a server; it is in `servers` at once."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = SetLimits(defaults)
        settings.resolve([gpu[0] for gpu in self._steering.gpus()])
        pid = os.fork()
        if not pid:
            self._be_server(theirs, uid, settings, defaults)
        theirs.close()
        started = KnownServer(pid, uid, ours, settings)
        self.servers[pid] = started
        ended = os.pidfd_open(pid)
        self.events[ours.fileno()] = lambda: self._hear(started)
        self.events[ended] = lambda: self._ended(started, ended, defaults)
        return started

    def _be_server(
        self, daemon: socket.socket, uid: int, settings: SetLimits, defaults: SetLimits
    ) -> None:
        try:
            kept = os.dup2(daemon.fileno(), 3)
            os.closerange(4, 256)
            options = ("-multiuser-server",) if self._multi_user else ()
            titles.take(server_process.NAME, *options)  # not allowed to another user's process
            if not self._multi_user and os.getuid() == 0:
                os.setgid(uid)
                os.setuid(uid)
            process = server_process.ServerProcess(
                socket.socket(fileno=kept), self._steering, self._pipe
            )
            process.announce(uid)
            process.run(uid, settings.percentage, defaults.limits)
        finally:
            os._exit(1)

    def wait(self, started: KnownServer) -> None:
        """Serve only the servers until this one is ready or has ended."""
        while started.pid in self.servers and started.status == INITIALIZING:
            self.react(select.select([*self.events], [], [])[0])

    def arrive(self, client: KnownClient, defaults: SetLimits) -> None:
        """Hand a client to the server, or keep it until there is one for its user."""
        told = f"NEW CLIENT {client.pid} from user {client.uid}:"
        if self.closed:
            self._refuse(client, CONNECTION_FAILED)
            return
        server = next(iter(self.servers.values()), None)
        if server and self._takes(server, client):
            if self._steering.status == FAULT:  # the server itself does not know
                self._refuse(client, NOT_READY)
                return
            self._hand_over(server, client)
            return
        self._say(f"{told} Server is not ready, push client to pending list")
        self._pending.append(client)
        if server is None:
            self.start(client.uid, defaults)
        elif server.status == ACTIVE and not server.clients and not server.closing:
            self._shut_idle(server)

    def _takes(self, server: KnownServer, client: KnownClient) -> bool:
        forced = self._steering.status
        if INITIALIZING in (server.status, forced) or server.closing:
            return False
        return self._multi_user or server.uid == client.uid

    def _hand_over(self, server: KnownServer, client: KnownClient) -> None:
        self._say(f"NEW CLIENT {client.pid} from user {client.uid}: Server already exists")
        server.served += 1
        client.number = server.served
        server.clients[client.number] = client
        settings = server.settings
        gpus = self._steering.gpus()
        message = {
            "number": client.number,
            "pid": client.pid,
            "percentage": settings.percentage,
            "gpu": gpus[0][0] if gpus else "",
            "limit": settings.limits.get(gpus[0][0], 0) if gpus else 0,
        }
        descriptor = client.connection.fileno()
        try:
            socket.send_fds(server.connection, [json.dumps(message).encode()], [descriptor])
        except OSError:  # it was killed: the client waits for the next one
            del server.clients[client.number]
            self._pending.append(client)
            return
        client.connection.close()

    def _refuse(self, client: KnownClient, error: int) -> None:
        with contextlib.suppress(OSError):  # it may not have waited for the answer
            client.connection.send(json.dumps({"error": error}).encode())
        client.connection.close()

    def _shut_idle(self, server: KnownServer) -> None:
        self.shut(server, time.monotonic(), force=False)

    def shut(self, server: KnownServer, now: float, *, force: bool, again: bool = False) -> None:
        """Stop a server, by force or when it has no clients; *again*: it had some before."""
        server.closing, server.retry = True, None
        backoff = "enabled" if again else "disabled"
        self._say(f"Try shutting down server {server.pid}, backoff is {backoff}")
        if threads := CONTEXTS * len(server.clients):
            busy = f"has {threads} active worker threads. Server will not shutdown."
            self._say(f"Server {server.pid} {busy}")
        if threads and not force:
            server.delay = 2 * server.delay if again else FIRST_DELAY
            server.retry = now + server.delay
            later = f"again in at most {server.delay * 1000:.0f}ms"
            self._say(f"Control will try shutting down server {server.pid} {later}")
            self._order(server, busy=threads)
            return
        if threads:
            self._say(f"Force shutting down server {server.pid}")
        self._order(server, stop=True, busy=threads)

    def retry(self, now: float) -> None:
        """Tell servers again to end, as far as that is due; not later than it was due."""
        for server in self.servers.values():
            while server.retry is not None and server.retry <= now:
                self.shut(server, server.retry, force=False, again=True)

    def terminate(self, server: KnownServer, client: KnownClient) -> None:
        """End a client's use of the GPU."""
        self._order(server, terminate=client.number)

    def query(self, server: KnownServer) -> None:
        """Ask a server for its devices."""
        self._order(server, query=True)

    def limit(self, server: KnownServer, device: str) -> None:
        """Tell a server its new memory limit."""
        if device in server.settings.limits:
            self._order(server, device=device, limit=server.settings.limits[device])

    def _order(self, server: KnownServer, **order: object) -> None:
        with contextlib.suppress(OSError):  # if it has ended, its descriptor tells so
            server.connection.send(json.dumps(order).encode())

    def _hear(self, server: KnownServer) -> None:
        try:
            message = server.connection.recv(server_process.LONGEST)
        except OSError:
            message = b""
        if not message:
            self.events.pop(server.connection.fileno(), None)
            return
        self._note(server, json.loads(message))

    def _note(self, server: KnownServer, news: dict[str, Any]) -> None:
        if "connected" in news:
            self._say("Accepting connection...")
        if "gone" in news:
            server.clients.pop(news["gone"], None)
        if "status" in news:
            if server.status == INITIALIZING:
                self._say(f"NEW SERVER {server.pid}: Ready")
                self._failures = 0
            server.status = news["status"]
        if server.status == ACTIVE:
            self._settle(server)

    def _settle(self, server: KnownServer) -> None:
        """Serve clients that wait; a server whose user nobody has any more makes room."""
        waiting, self._pending = self._pending, []
        for client in waiting:
            if self._takes(server, client):
                self._hand_over(server, client)
            else:
                self._pending.append(client)
        if self._pending and not server.clients and not server.closing:
            self._shut_idle(server)

    def _ended(self, server: KnownServer, descriptor: int, defaults: SetLimits) -> None:
        del self.events[descriptor], self.servers[server.pid]
        os.close(descriptor)
        self.events.pop(server.connection.fileno(), None)
        server.connection.close()
        code = os.waitstatus_to_exitcode(os.waitpid(server.pid, 0)[1])
        self._say(f"Server {server.pid} exited with status {max(code, 0)}")  # 0 of a killed one
        self._failures += server.status == INITIALIZING
        if self._failures >= ATTEMPTS:
            self._say("MPS server failed to start")
            for client in self._pending:
                self._refuse(client, CONNECTION_FAILED)
            self._pending, self._failures = [], 0
        if self._pending and not self.servers and not self.closed:
            self.start(self._pending[0].uid, defaults)
