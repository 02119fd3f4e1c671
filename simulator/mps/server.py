"""The stand-in for nvidia-cuda-mps-server: a process with clients, which can fault."""

import contextlib
import json
import os
import select
import signal
import socket
from typing import Any, NoReturn

from simulator.mps import texts
from simulator.mps.state import ACTIVE, FAULT
from simulator.mps.steering import Steering

NAME = "nvidia-cuda-mps-server"
START = (0.1, 0.05)
"""Seconds until the server has the driver, and then its contexts; on an H100 0.15 to 0.27."""

END = 0.07
"""Seconds that a server takes to end."""

TERMINATED, ILLEGAL_ADDRESS, NOT_READY = 810, 700, 807
"""CUDA errors."""

LONGEST = 65536
"""Bytes of a message."""


class ServerProcess:
    """The process, from its fork to its end."""

    def __init__(self, daemon: socket.socket, steering: Steering, pipe: str) -> None:
        self._daemon = daemon
        self._steering = steering
        self._pipe = pipe
        self._clients: dict[int, socket.socket] = {}
        self._uses: dict[int, dict[str, Any]] = {}
        self._faulted: set[int] = set()
        """Clients that must end before the server is ACTIVE again."""
        self._destroyed = False
        """After a fault it has no context until a client comes."""
        self._poll = select.poll()

    def announce(self, uid: int) -> None:
        """Log the start, as the daemon's child does before it becomes the server."""
        self._log("Control", f"Starting new server {os.getpid()} for user {uid}")

    def run(self, uid: int, percentage: str, limits: dict[str, int]) -> NoReturn:
        """Start, serve the clients, and end."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        self._start(uid)
        self._log("Server", f"Active Threads Percentage set to {percentage}")
        for device, limit in sorted(limits.items()):
            self._limit(device, limit)
        self._log("Server", "Server Priority set to 0")
        self._log("Server", "Server has started")
        self._poll.register(self._daemon, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in self._poll.poll()]
            for descriptor in set(ready) & set(self._clients):
                self._listen(descriptor)  # first: who connects now may have come after their end
            if self._daemon.fileno() in ready:
                self._hear()

    def _start(self, uid: int) -> None:
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
        self._contexts("Creating")
        self._rest(START[1])
        self._log("Server", f"Created anonymous shared memory region mps.shm.{uid}.{os.getpid()}")
        self._log("Server", "CUDA MPS Server for Linux/Unix. Binary version: 13000")
        self._log("Server", "Display Driver version: 580")
        self._tell(status=ACTIVE)

    def _contexts(self, what: str) -> None:
        for ordinal, gpu in enumerate(self._steering.gpus()):
            self._log("Server", f"{what} server context on device {ordinal} ({gpu[1]})")

    def _limit(self, device: str, limit: int) -> None:
        size = f"{limit << 20:#x} bytes"
        self._log("Server", f"Device pinned memory limit for device {device} set to {size}")

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
        elif "query" in order:
            devices = f"There are {len(self._steering.gpus())} devices"
            self._log("Server", f"Received device query command. {devices}")
        elif "limit" in order:
            self._limit(order["device"], order["limit"])
        else:
            self._stop(order)

    def _stop(self, order: dict[str, Any]) -> None:
        self._log("Server", "Server has been notified to shutdown")
        if threads := order["busy"]:
            failed = f"Server was unable to shutdown due to {threads} active clients"
            self._log("Server", failed)
            if "stop" in order:
                os._exit(0)
            return
        self._log("Server", "Waiting for current clients to finish")
        self._log("Server", "Exiting")
        self._rest(END)
        os._exit(0)

    def _terminate(self, number: int) -> None:
        for descriptor, use in self._uses.items():
            if use["number"] == number:
                self._log("Server", f"MPS server requesting client {_context(use)} to exit")
                self._log("Server", "Client termination succeeded.")
                self._answer(descriptor, error=TERMINATED)

    def _accept(self, client: socket.socket, use: dict[str, Any]) -> None:
        self._log("Server", "Received new client request for {PID: -2147483648, Context ID: 2}")
        if self._faulted:
            self._refuse(client, use)
            return
        if self._destroyed:
            self._contexts("Creating")
            self._destroyed = False
        descriptor = client.fileno()
        self._clients[descriptor], self._uses[descriptor] = client, use
        self._poll.register(client, select.POLLIN)
        for number in (0, 1):
            self._log("Server", f"Client {_context(use, number)} connected")
            self._log("Server", f"Creating worker thread for client {_context(use, number)}")
        for uuid, name, _ in self._steering.gpus():
            self._log("Server", f"Device {name} (uuid {uuid}) is associated")
        self._log("Server", f"Status of client {_context(use)} is ACTIVE")
        self._answer(descriptor, **use)

    def _refuse(self, client: socket.socket, use: dict[str, Any]) -> None:
        who = _context(use, 0)
        self._log("Server", f"Server teardown in progress. Refusing to accept new client {who}")
        self._log("Server", f"Failed to accept client {who} with status {NOT_READY}")
        with contextlib.suppress(OSError):  # it may not have waited for the answer
            client.send(json.dumps({"error": NOT_READY}).encode())
        client.close()
        self._tell(gone=use["number"])

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
        for line in _fault_lines(list(self._uses.values())):
            self._log("Server", line)
        self._faulted = set(self._clients)
        self._tell(status=FAULT)
        for descriptor in self._faulted:
            self._answer(descriptor, error=ILLEGAL_ADDRESS)

    def _leave(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._clients.pop(descriptor).close()
        use = self._uses.pop(descriptor)
        self._lost(use, 1)
        left = f"Number of active client contexts is {len(self._uses)}."
        self._log("Server", f"Client {_context(use)} exiting. {left}")
        if descriptor in self._faulted:
            self._faulted.remove(descriptor)
            if not self._faulted:
                self._contexts("Destroy")
                self._destroyed = True
                self._tell(status=ACTIVE)
        self._lost(use, 0)
        self._log("Server", f"Client process {use['pid']} disconnected")
        self._tell(gone=use["number"])

    def _lost(self, use: dict[str, Any], number: int) -> None:
        who = _context(use, number)
        failed = "Server failed to recevie command with status 806"
        self._log("Server", f"{failed}, assuming client {who} exit")


def _context(use: dict[str, Any], number: int = 1) -> str:
    return f"{{PID: {use['pid']}, Context ID: {number}}}"


def _fault_lines(uses: list[dict[str, Any]]) -> list[str]:
    """Return what a server logs when it faults: it cannot tell which of its clients is at fault."""
    pids = [str(use["pid"]) for use in uses]
    lines = [f"Client {{PID: {pids[0]}, Context: 1}} encountered a fatal GPU error."]
    lines.append("Server is handling a fatal GPU error.")
    lines += [f"Client {_context(use)} on device 0 to be torn down" for use in uses]
    for pid, use in zip(pids, uses, strict=True):
        lines.append(f"All clients belonging to error trigging process {pid} will be torn down")
        process = f"the error-trigging process {pid} to be torn down"
        lines.append(f"Client {_context(use)} on {process}")
    lines += ["The following devices will be reset:", "0"]
    lines += ["The following client process have a sticky error set:", *pids]
    return lines
