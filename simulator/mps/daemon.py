"""The stand-in for the daemon `nvidia-cuda-mps-control`: sockets, shells, and its end."""

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import time
from typing import NoReturn

from simulator.mps import texts
from simulator.mps.roster import Roster
from simulator.mps.server import LONGEST
from simulator.mps.shell import CommandShell
from simulator.mps.state import KnownClient, KnownServer
from simulator.mps.steering import Steering

SOCKETS = {"control": 0o666, "control_privileged": 0o755}
NAME = "nvidia-cuda-mps-control"

PATH_LIMIT = 106
"""Bytes of a socket's path."""

LOOK_AGAIN = 20
"""Milliseconds between two looks at the faults, while an answer is held back."""


class StartError(Exception):
    """The daemon cannot start; the message goes to stdout."""


class ControlDaemon:
    """The daemon, from its start to its end."""

    def __init__(self, steering: Steering, pipe: str, logs: str, *, multi_user: bool) -> None:
        self._steering = steering
        self._pipe = pipe
        self._logs = logs
        self._to_files = False
        self._roster = Roster(self.say, steering, pipe, multi_user=multi_user)
        self._shell = CommandShell(self, steering, self._roster.servers)
        self._listeners: list[socket.socket] = []
        self._wanted: list[int] = []
        self._held: list[tuple[float, socket.socket, str]] = []
        self._quitting: list[socket.socket] = []
        self._forced_at: float | None = None  # then `quit -t` stops the servers

    def bind(self) -> None:
        """Create the files of the pipe folder; StartError if that cannot be done."""
        os.umask(0)
        try:
            os.makedirs(self._pipe, 0o755, exist_ok=True)
            self._lock = os.open(f"{self._pipe}/control_lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise StartError("") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._tell_the_other()
            raise StartError(texts.RUNNING) from error
        if not os.path.exists(f"{self._pipe}/log"):
            os.mkfifo(f"{self._pipe}/log", 0o777)
        self._log = os.open(f"{self._pipe}/log", os.O_RDWR | os.O_NONBLOCK)
        if any(len(f"{self._pipe}/{name}".encode()) > PATH_LIMIT for name in SOCKETS):
            raise StartError("")
        for name, mode in SOCKETS.items():
            _remove(f"{self._pipe}/{name}")
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(f"{self._pipe}/{name}")
            os.chmod(f"{self._pipe}/{name}", mode)
            listener.listen(64)
            self._listeners.append(listener)

    def _tell_the_other(self) -> None:
        text = f"Using log directory: {self._logs}"
        log = os.open(f"{self._pipe}/log", os.O_WRONLY | os.O_NONBLOCK)
        os.write(log, texts.log_line("Other", os.getpid(), text))
        os.close(log)

    def end_with(self, pid: int) -> None:
        """End as soon as the process *pid* has ended; servers end with their daemon."""
        try:
            ended = os.pidfd_open(pid)
        except ProcessLookupError:
            os._exit(1)
        self._roster.events[ended] = lambda: os._exit(1)

    def run(self, *, to_files: bool) -> NoReturn:
        """Serve until the end; *to_files*: the log goes to the log folder instead of stdout."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._to_files = to_files
        with open(f"{self._pipe}/{NAME}.pid", "w") as file:
            file.write(str(os.getpid()))
        self.say(f"Starting control daemon using socket {self._pipe}/control")
        where = f"set env CUDA_MPS_PIPE_DIRECTORY={self._pipe}"
        self.say(f"To connect CUDA applications to this daemon, {where}")
        self.say("CUDA MPS Control binary version: 13000")
        self._roster.events[self._log] = self._copy_log
        while True:
            self._roster.react(self._readable())
            self._tick()

    def _readable(self) -> list[int]:
        """Wait; new connections come last, since who connects now may have closed another."""
        poll = select.poll()
        ready = {listener.fileno(): listener for listener in self._listeners}
        for descriptor in [*self._roster.events, *ready]:
            poll.register(descriptor, select.POLLIN)
        stopping = any(server.retry for server in self._roster.servers.values())
        busy = self._held or self._quitting or stopping
        found = [descriptor for descriptor, _ in poll.poll(LOOK_AGAIN if busy else None)]
        for descriptor in set(found) & set(ready):
            self._accept(ready[descriptor])
        return [descriptor for descriptor in found if descriptor not in ready]

    def _accept(self, listener: socket.socket) -> None:
        connection, _ = listener.accept()
        self._roster.events[connection.fileno()] = lambda: self._greet(connection)

    def _greet(self, connection: socket.socket) -> None:
        """Read the first message, which says who it is."""
        self.say("Accepting connection...")
        greeting = _received(connection)
        if greeting == b"shell":
            self.say("NEW UI")
            self._roster.events[connection.fileno()] = lambda: self._serve(connection)
            return
        del self._roster.events[connection.fileno()]
        if not greeting:
            self.say("User did not send valid credentials")
            connection.close()
            return
        size = struct.calcsize("3i")
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _ = struct.unpack("3i", peer)
        self._roster.arrive(KnownClient(connection, pid, uid, greeting), self._shell.defaults)

    def _serve(self, connection: socket.socket) -> None:
        """Answer the next command of a shell."""
        line = _received(connection).decode(errors="replace")
        if not line:
            self._close(connection)
            return
        order = self._steering.of(line.strip().split(" ")[0])
        after = order.get("after", 0)
        due = time.monotonic() + (after if isinstance(after, (int, float)) else 0)
        self._held.append((due, connection, line.rstrip("\n")))

    def _close(self, connection: socket.socket) -> None:
        self.say("UI closed")
        del self._roster.events[connection.fileno()]
        self._held = [entry for entry in self._held if entry[1] is not connection]
        connection.close()
        wanted, self._wanted = self._wanted, []
        for uid in wanted:
            if not self._roster.servers:
                self._roster.wait(self._roster.start(uid, self._shell.defaults))

    def _tick(self) -> None:
        """Answer what is due, and end when the servers have ended."""
        entries, self._held = self._held, []
        for due, connection, line in entries:
            order = self._steering.of(line.strip().split(" ")[0])
            if order.get("never") or time.monotonic() < due:
                self._held.append((due, connection, line))
            else:
                self._answer(connection, line, order)
        now = time.monotonic()
        forced, self._forced_at = self._forced_at, None
        if forced is None or now < forced:
            self._forced_at = forced
            self._roster.retry(now)
        else:
            self._roster.retry(forced)
            for server in self._roster.servers.values():
                self._roster.shut(server, forced, force=True)
        if self._quitting and not self._roster.servers:
            self._exit()

    def _exit(self) -> NoReturn:
        self.say("Exit with status 0")
        for name in ("log", f"{NAME}.pid"):
            _remove(f"{self._pipe}/{name}")
        for connection in self._quitting:
            _send(connection, b"0")
        os._exit(0)

    def _answer(self, connection: socket.socket, line: str, order: dict[str, object]) -> None:
        self.say(f"Cmd:{line}")
        self._steering.note("commands", command=line)
        if "exit" in order:
            _send(connection, f"{order['exit']}{order.get('says', '')}".encode())
            return
        before = self._roster.closed
        answer = self._shell.answer(line)
        if self._roster.closed and not before:
            self._quitting.append(connection)
            return
        answer = f"{order['says']}\n" if "says" in order else answer
        for text in texts.lines(answer):
            self.say(text)
        _send(connection, b"0" + answer.encode())

    def start(self, uid: int) -> None:
        """Start a server when the shell that asked is closed."""
        self._wanted.append(uid)

    def shut(self, server: KnownServer, *, force: bool) -> None:
        """Stop a server, by force or when it has no clients."""
        self._roster.shut(server, time.monotonic(), force=force)

    def query(self, server: KnownServer) -> None:
        """Ask a server for its devices."""
        self._roster.query(server)

    def limit(self, server: KnownServer, device: str) -> None:
        """Tell a server its new memory limit."""
        self._roster.limit(server, device)

    def terminate(self, server: KnownServer, client: KnownClient) -> None:
        """End the client's use of the GPU."""
        self._roster.terminate(server, client)

    def quit(self, seconds: str) -> None:
        """End the daemon after its servers; after so many seconds, if any, stop them by force."""
        self._roster.closed = True
        now = time.monotonic()
        if seconds:
            self.say(f"quit command issued with timeout of {seconds}")
            self._forced_at = now + float(seconds)
        for server in self._roster.servers.values():
            self._roster.shut(server, now, force=False)

    def say(self, text: str) -> None:
        """Log a line."""
        self._write("control.log", texts.log_line("Control", os.getpid(), text))

    def _copy_log(self) -> None:
        """Log what servers have written into the pipe."""
        for line in os.read(self._log, LONGEST).splitlines(keepends=True):
            self._write("control.log" if b" Control " in line[:40] else "server.log", line)

    def _write(self, name: str, lines: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk ends no program in C
            if not self._to_files:
                os.write(1, lines)
                return
            with open(f"{self._logs}/{name}", "ab", buffering=0) as file:
                file.write(lines)


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(LONGEST)
    except OSError:
        return b""


def _send(connection: socket.socket, message: bytes) -> None:
    with contextlib.suppress(OSError):  # the shell may not have waited for the answer
        connection.send(message)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
