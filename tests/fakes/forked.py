"""Processes that a zygote forks, which costs a tenth of a start with its imports."""

import asyncio
import contextlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from tests.fakes.zygote import Start

ROOT = Path(__file__).parents[2]
LIMITS = (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_AS)
SERVICE = "supervisor"
"""The module that runs the service and the other commands."""

GUARD = 60.0
"""Seconds after which a killed process must have ended."""

READ_BY_EXEC = ("LD_", "PYTHON", "MALLOC_", "GLIBC_")
"""Beginnings of variables that loader, C library and interpreter read only when they start."""


def _read_by_exec(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(READ_BY_EXEC)}


class Zygote:
    """A running zygote, with these variables *more* in its environment."""

    def __init__(self, more: Mapping[str, str]) -> None:
        environment = {**os.environ, **more}
        self._fixed = _read_by_exec(environment)
        self._lock = threading.Lock()
        self._ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.zygote", str(its.fileno())],
                cwd=ROOT,
                env=environment,
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def can_fork(self, environment: Mapping[str, str]) -> bool:
        """Return whether a forked process can have this environment."""
        return _read_by_exec(environment) == self._fixed

    def fork(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        descriptors: Sequence[int],
        module: str = SERVICE,
        script: str = "",
    ) -> int:
        """Fork a *module*, or else a *script*, with these descriptors as 0, 1, 2 and so on.

        Return its pid, which is a child of ours.
        """
        umask = os.umask(0o022)
        os.umask(umask)
        limits = {number: resource.getrlimit(number) for number in LIMITS}
        given = (tuple(arguments), dict(environment), str(Path.cwd()), umask, limits)
        start = msgspec.json.encode(Start(module, script, *given))
        with self._lock:
            socket.send_fds(self._ours, [start], descriptors)
            answer = self._ours.recv(100)
        if not answer:
            raise RuntimeError("cannot fork: the zygote ended; its error is above")
        return int(answer)

    def close(self) -> None:
        """End the zygote; what it forked lives on."""
        self._ours.close()
        self._process.wait()


class _Process:
    """A forked process, and the signals for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._pidfd = os.pidfd_open(pid)

    def _reap(self) -> int:
        os.close(self._pidfd)
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; ProcessLookupError if the process has been reaped."""
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Forked(_Process):
    """A forked process, with what tests use of asyncio.subprocess.Process."""

    def __init__(self, pid: int, stderr: asyncio.StreamReader) -> None:
        super().__init__(pid)
        self.stderr = stderr
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        loop.add_reader(self._pidfd, self._has_ended)

    def _has_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._ended.set_result(self._reap())

    async def wait(self) -> int:
        """Wait until the process ends, and return its exit code, or -N after signal N."""
        return await asyncio.shield(self._ended)


class Script(_Process):
    """A forked script, with what tests use of subprocess.Popen; it ends with a with-block."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def wait(self, timeout: float) -> int:
        """Wait until the process ends, and return its exit code, or -N after signal N."""
        if self.returncode is not None:
            return self.returncode
        ends = select.poll()  # select takes no descriptor above 1023
        ends.register(self._pidfd, select.POLLIN)
        assert ends.poll(timeout * 1000), f"it runs after {timeout} s"
        return self._reap()

    def end(self) -> None:
        """Kill the process unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self.kill()
        self.wait(GUARD)


_running: list[Zygote] = []


@contextlib.contextmanager
def zygote(**more: str) -> Iterator[None]:
    """Run a zygote, which forks the services that tests start meanwhile in its environment.

    This is ours, with *more* variables.
    """
    running = Zygote(more)
    _running.append(running)
    try:
        yield
    finally:
        _running.remove(running)
        running.close()


def parent(environment: Mapping[str, str]) -> Zygote | None:
    """Return a zygote that can fork a process with this environment."""
    return next((running for running in _running if running.can_fork(environment)), None)


def script(
    text: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    stdout: int,
    stderr: int,
    *others: int,
) -> Script:
    """Fork `python -c TEXT`, whose descriptors 3, 4 and so on are the *others*."""
    found = parent(environment)
    assert found, "only a test in tests/process can fork, and only with our PYTHON* and LD_*"
    descriptors = [0, stdout, stderr, *others]
    return Script(found.fork(arguments, environment, descriptors, module="", script=text))


async def fork(arguments: Sequence[str], environment: Mapping[str, str]) -> Forked | None:
    """Fork a service whose stderr is a pipe; return None if only exec can start it."""
    found = parent(environment)
    if found is None:
        return None
    reader, writer = os.pipe()
    try:
        pid = found.fork(arguments, environment, [0, 1, writer])
    finally:
        os.close(writer)
    stream = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reader, "rb", buffering=0)
    )
    return Forked(pid, stream)
