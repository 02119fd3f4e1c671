"""Run a program that must end within a time limit, without a thread and without a pipe."""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from proto.memory_file import memory_file

MOST_BYTES = 1 << 18
"""Bytes of the output; a program that prints without end gets an error after them."""

KILL_LIMIT = 1.0
"""Seconds to wait for a killed program to end; one that hangs in the driver may not."""

MOST_STUCK = 4
"""Programs that cannot be killed at a time; no other is started meanwhile."""


class Result(msgspec.Struct, frozen=True):
    """How a program ended."""

    code: int | None
    """Its exit code; None: it was killed at the time limit, or could not be started."""
    output: str
    """Both streams; or why it could not be started."""
    started: bool = True


async def readable(descriptor: int, limit: float | None = None) -> bool:
    """Wait until *descriptor* can be read, at most *limit* seconds; return whether it can."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(descriptor, event.set)
    try:
        async with asyncio.timeout(limit):
            await event.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


class Runner:
    """Runs programs, and remembers those that cannot be killed."""

    def __init__(
        self, begun: Callable[[int], object] | None = None, *, group: bool = False
    ) -> None:
        """Tell each program's PID to *begun*; with a *group*, what it starts is killed with it."""
        self._begun = begun
        self._group = group
        self._stuck: list[subprocess.Popen[bytes]] = []

    async def run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None,
        limit: float,
        said: str = "",
    ) -> Result:
        """Run *command* with *said* as its input; it is killed after *limit* seconds."""
        self._stuck = [process for process in self._stuck if process.poll() is None]
        if len(self._stuck) >= MOST_STUCK:
            return Result(None, f"{MOST_STUCK} earlier runs cannot be killed", started=False)
        # In memory files: a pipe would have to be read meanwhile, and another process may hold it.
        with _memory(said) as told, _memory() as output:
            os.ftruncate(output, MOST_BYTES)
            fcntl.fcntl(output, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
            try:
                process = _started(command, environment, told, output, group=self._group)
            except OSError as error:
                return Result(None, error.strerror or str(error), started=False)
            if self._begun:
                self._begun(process.pid)
            code = await self._end_of(process, limit)
            printed = os.pread(output, MOST_BYTES, 0).rstrip(b"\0")
            return Result(code, printed.decode(errors="replace"))

    async def _end_of(self, process: "subprocess.Popen[bytes]", limit: float) -> int | None:
        ended = os.pidfd_open(process.pid)
        try:
            if await readable(ended, limit):
                _kill(process, group=self._group)  # what it has left behind
                return process.wait()
            _kill(process, group=self._group)
            await readable(ended, KILL_LIMIT)
            return None
        finally:
            if process.returncode is None:
                _kill(process, group=self._group)  # if this run was cancelled
            if process.poll() is None:
                self._stuck.append(process)
            os.close(ended)


def _started(
    command: Sequence[str],
    environment: Mapping[str, str] | None,
    told: int,
    output: int,
    *,
    group: bool,
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        env=environment,
        stdin=told,
        stdout=output,
        stderr=output,
        cwd="/",
        start_new_session=group,
    )


def _kill(process: "subprocess.Popen[bytes]", *, group: bool) -> None:
    """Kill a process that has not been waited for: so no other one can have its number."""
    if group:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    elif process.poll() is None:
        process.kill()


@contextlib.contextmanager
def _memory(content: str = "") -> Iterator[int]:
    descriptor = memory_file("run")
    try:
        os.write(descriptor, content.encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
