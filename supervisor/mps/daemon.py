"""The process of an MPS daemon: started so that it outlives its keeper, or found and adopted."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from proto.running import readable
from supervisor.mps.commands import ClientLimits

NAME = "nvidia-cuda-mps-control"
SERVER = "nvidia-cuda-mps-server"

OPTIONS = ("-f", "-multiuser-server")
"""In the foreground, and one server for the clients of all users."""

MARK = "GPU_SHARING_PLUGIN_LIMITS"
"""The variable in the environment of a daemon that says for which limits it was started.

A daemon rounds the limits that it answers. The environment stays with its process, unlike a file.
"""

PIPE, LOGS, DEVICES = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY", "CUDA_VISIBLE_DEVICES"

PROCFS = Path("/proc")

SERVER_ENDS = 0.5
"""Seconds in which a server ends after its daemon; hardware took up to 0.2 s."""

KILL_LIMIT = 1.0
"""Seconds to wait for the end of a killed daemon."""


def mark(limits: ClientLimits) -> str:
    """Return the text of limits for the environment."""
    return f"{limits.memory_mib},{limits.threads}"


class Found(msgspec.Struct, frozen=True):
    """A daemon that runs."""

    pid: int
    environment: dict[str, str]
    options: tuple[str, ...]


class Daemon:
    """A running daemon."""

    def __init__(self, pid: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
        """Hold on to the process *pid*; *process*: it is a child of this process.

        ProcessLookupError if it has ended.
        """
        self.pid = pid
        self._process = process
        self.ended_at = os.pidfd_open(pid)

    def ended(self) -> bool:
        """Return whether it has ended."""
        return bool(select.select([self.ended_at], [], [], 0)[0])

    def end(self) -> tuple[int, str]:
        """Return its exit code, 0 for a signal, and in words how it ended.

        Call it once, after its end. Nobody but its parent gets to know the exit code.
        """
        os.close(self.ended_at)
        if self._process is None:
            return 0, "the daemon ended"
        code = self._process.wait()
        if code >= 0:
            return code, f"the daemon ended with exit code {code}"
        names = {known.value: known.name for known in signal.Signals}
        return 0, f"the daemon was killed by {names.get(-code, f'signal {-code}')}"

    async def kill(self) -> None:
        """Kill it, and wait a moment for its end."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.ended_at, signal.SIGKILL)
        await readable(self.ended_at, KILL_LIMIT)


def start(program: str, environment: dict[str, str], output: int) -> Daemon:
    """Start a daemon that writes to the descriptor *output*; OSError if that fails.

    It is in a session of its own, and no signal tells it of our end.
    """
    process = subprocess.Popen(
        [program, *OPTIONS],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        start_new_session=True,
        umask=0o022,  # that of a login, not ours: clients of all users must reach its files
    )
    return Daemon(process.pid, process)


def running(pipe: str) -> tuple[Daemon, Found] | None:
    """Return the daemon of a pipe folder that runs, whoever started it; None: there is none."""
    return next(_processes(pipe, NAME), None)


async def end_servers(pipe: str, on_kill: Callable[[int], object]) -> None:
    """Wait until the servers that a daemon has left behind have ended; kill those that hang.

    Call it while no daemon of the pipe folder runs. *on_kill* gets to know the PID.
    """
    for server, _ in _processes(pipe, SERVER):
        try:
            if not await readable(server.ended_at, SERVER_ENDS):
                on_kill(server.pid)
                await server.kill()
        finally:
            os.close(server.ended_at)


def _processes(pipe: str, name: str) -> Iterator[tuple[Daemon, Found]]:
    """Yield the processes of that name that use a pipe folder, held by a descriptor each."""
    for folder in PROCFS.iterdir():
        if folder.name.isdecimal() and _of(folder, pipe, name):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                process = Daemon(int(folder.name))
                # Again: now that we hold on to it, the PID cannot be another process's.
                if (found := _of(folder, pipe, name)) and not process.ended():
                    yield process, found
                else:
                    os.close(process.ended_at)


def _ours(folder: Path) -> bool:
    """Return whether a process is of our user or root, and in our PID namespace.

    As all are that we started. Any user, and any container, may call a process as it likes.
    """
    if folder.stat().st_uid not in {0, os.geteuid()}:
        return False
    return (folder / "ns/pid").stat().st_ino == (PROCFS / "self/ns/pid").stat().st_ino


def exists(pipe: str) -> bool:
    """Return whether a daemon of a pipe folder runs."""
    found = running(pipe)
    if found:
        os.close(found[0].ended_at)
    return found is not None


def same_folder(one: str, other: str) -> bool:
    """Return whether two paths are of one folder; the root may be written in another way now."""
    return one == other or (
        one.startswith("/") and os.path.realpath(one) == os.path.realpath(other)
    )


def pipes() -> Iterator[str]:
    """Yield the pipe folder of each daemon that runs on this node, whoever started it."""
    for folder in PROCFS.iterdir():
        if folder.name.isdecimal() and (found := _read(folder, NAME)):
            yield found.environment.get(PIPE, "")


def _of(folder: Path, pipe: str, wanted: str) -> Found | None:
    """Return a process of the pipe folder; None: it is another one."""
    found = _read(folder, wanted)
    return found if found and same_folder(found.environment.get(PIPE, ""), pipe) else None


def _read(folder: Path, wanted: str) -> Found | None:
    """Return a process by its name, with its environment; None: it is another one.

    Not by the file with the PID: it may be gone, and another process may have that PID by now.
    """
    try:
        name, *options = (folder / "cmdline").read_text(errors="replace").rstrip("\0").split("\0")
        if Path(name).name != wanted or (wanted == NAME and "-f" not in options):
            return None  # such as a shell, which has the same environment
        if not _ours(folder):
            return None
        words = (folder / "environ").read_text(errors="replace").split("\0")
    except OSError:
        return None
    environment = dict(word.partition("=")[::2] for word in words)
    return Found(int(folder.name), environment, tuple(options))
