"""The stand-in for nvidia-cuda-mps-server: a process with clients, which can fault."""

import contextlib
import json
import os
import select
import signal
import socket
from typing import Any, NoReturn

from tests.fakes.mps import texts
from tests.fakes.mps.state import ACTIVE, FAULT
from tests.fakes.mps.steering import Steering

NAME = "nvidia-cuda-mps-server"
START = (0.1, 0.05)
"""Seconds until the server has the driver, and then its contexts; on an H100 0.15 to 0.27."""

END = 0.07
"""Seconds that a server takes to end."""

TERMINATED, ILLEGAL_ADDRESS, NOT_READY = 810, 700, 807
"""CUDA errors."""

LONGEST = 65536
"""Bytes of a message."""


class Server:
    """The process, from its fork to its end."""

    def __init__(self, daemon: socket.socket, steering: Steering, pipe: str) -> None:
        self._daemon = daemon
        self._steering = steering
        self._pipe = pipe
        self._clients: dict[int, socket.socket] = {}
        self._uses: dict[int, dict[str, Any]] = {}
        self._faulted: set[int] = set()
        """Clients that must end before the server is ACTIVE again."""
        self._closing = False
        self._poll = select.poll()

    def announce(self, uid: int) -> None:
        """Log the start, as the daemon's child does before it becomes the server."""
        self._log("Control", f"Starting new server {os.getpid()} for user {uid}")

    def run(self, percentage: str) -> NoReturn:
        """Start, serve the clients, and end."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._start(percentage)
        self._poll.register(self._daemon, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._daemon.fileno():
                    self._hear()
                elif descriptor in self._clients:
                    self._listen(descriptor)

    def _start(self, percentage: str) -> None:
        self._log("Other", "Startup")
        self._log("Other", f"Connecting to control daemon on socket: {self._pipe}/control")
        if not os.access(f"{self._pipe}/control", os.W_OK):
            os._exit(1)  # another user must be able to reach it
        self._tell(connected=True)
        self._log("Other", "Initializing server process")
        how = self._steering.fault("server")
        gpus = self._steering.gpus()
        self._rest(START[0])
        if self._steering.crashes("server-crashes") or how == "fails" or not gpus:
            self._log("Other", "MPS server failed to start")
            os._exit(1)
        while how == "hangs":
            self._rest(0.02)
            how = self._steering.fault("server")
        if isinstance(how, (int, float)):
            self._rest(how)
        for ordinal, gpu in enumerate(gpus):
            self._log("Server", f"Creating server context on device {ordinal} ({gpu[1]})")
        self._rest(START[1])
        self._log("Server", f"Created anonymous shared memory region mps.shm.0.{os.getpid()}")
        self._log("Server", "CUDA MPS Server for Linux/Unix. Binary version: 13000")
        self._log("Server", "Display Driver version: 580")
        self._tell(status=ACTIVE)
        self._log("Server", f"Active Threads Percentage set to {percentage}")
        self._log("Server", "Server Priority set to 0")
        self._log("Server", "Server has started")

    def _rest(self, seconds: float) -> None:
        """Wait; end at once when the daemon has ended."""
        if select.select([self._daemon], [], [], seconds)[0] and not self._daemon.recv(
            1, socket.MSG_PEEK
        ):
            os._exit(1)

    def _log(self, who: str, text: str) -> None:
        try:
            pipe = os.open(f"{self._pipe}/log", os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return  # somebody removed the folder
        os.write(pipe, texts.log_line(who, os.getpid(), text))
        os.close(pipe)

    def _tell(self, **message: object) -> None:
        try:
            self._daemon.send(json.dumps(message).encode())
        except OSError:
            os._exit(1)

    def _hear(self) -> None:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._daemon, LONGEST, 1)
        except OSError:
            message, descriptors = b"", []
        if not message:
            os._exit(1)  # the daemon has ended
        order = json.loads(message)
        if descriptors:
            self._accept(socket.socket(fileno=descriptors[0]), order)
        elif "terminate" in order:
            self._terminate(order["terminate"])
        elif "stop" in order:
            self._log("Server", "Server has been notified to shutdown")
            self._log("Server", "Waiting for current clients to finish")
            self._closing = True
            if order["stop"] == "force" or not self._clients:
                self._exit()

    def _terminate(self, number: int) -> None:
        for descriptor, use in self._uses.items():
            if use["number"] == number:
                self._answer(descriptor, error=TERMINATED)

    def _exit(self) -> NoReturn:
        self._log("Server", "Exiting")
        self._rest(END)
        os._exit(0)

    def _accept(self, client: socket.socket, order: dict[str, Any]) -> None:
        self._log("Server", "Received new client request")
        descriptor = client.fileno()
        self._clients[descriptor], self._uses[descriptor] = client, order
        self._poll.register(client, select.POLLIN)
        if self._faulted:
            self._answer(descriptor, error=NOT_READY)
            return
        self._log("Server", "Worker created")
        self._answer(descriptor, server=os.getpid(), **order)

    def _answer(self, descriptor: int, **message: object) -> None:
        with contextlib.suppress(OSError):  # if it has ended, the poll tells so
            self._clients[descriptor].send(json.dumps(message).encode())

    def _listen(self, descriptor: int) -> None:
        try:
            message = self._clients[descriptor].recv(LONGEST)
        except OSError:
            message = b""
        if message == b"fault":
            self._fault()
        elif not message:
            self._leave(descriptor)

    def _fault(self) -> None:
        self._log("Server", "Server encountered a fatal exception")
        self._log("Server", "Volta MPS: Server is handling a fatal GPU error.")
        self._faulted = set(self._clients)
        self._tell(status=FAULT)
        for descriptor in self._faulted:
            self._answer(descriptor, error=ILLEGAL_ADDRESS)

    def _leave(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._clients.pop(descriptor).close()
        number = self._uses.pop(descriptor)["number"]
        self._log("Server", "Client process disconnected")
        if descriptor in self._faulted:
            self._faulted.remove(descriptor)
            if not self._faulted:
                self._log("Server", "Destroy server context on device 0")
                self._log("Server", "Creating server context on device 0")
                self._tell(status=ACTIVE)
        self._tell(gone=number)
        if self._closing and not self._clients:
            self._exit()
