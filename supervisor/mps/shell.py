"""Ask an MPS daemon: each command is a run of nvidia-cuda-mps-control with a time limit."""

import contextlib
import os
from pathlib import Path

from proto.mps import MpsClient, ServerStatus
from proto.running import Runner
from proto.texts import NAME_LIMIT, shortened
from supervisor.mps import commands, decide
from supervisor.mps.commands import Readings
from supervisor.mps.kept import DaemonSeen, Kept

DETAIL = 300
"""Most characters of what is told of an answer: it goes into messages and events."""


class SilentError(Exception):
    """The daemon did not answer, or answered what nobody understands; the message says it."""

    def __init__(self, message: str) -> None:
        super().__init__(shortened(message, DETAIL))


class Shell:
    """Asks the daemon of one device."""

    def __init__(self, runner: Runner, uuid: str, limit: float) -> None:
        """Give each command *limit* seconds."""
        self._runner = runner
        self._uuid = uuid
        self._limit = limit
        self._program = ""
        self._environment: dict[str, str] = {}

    def use(self, program: str, environment: dict[str, str]) -> None:
        """Use *program* from now on."""
        self._program, self._environment = program, environment

    async def say(self, command: str, limit: float | None = None) -> str:
        """Return the daemon's answer to a command; SilentError if there is none in time."""
        within = self._limit if limit is None else limit
        done = await self._runner.run(
            [self._program], self._environment, within, said=f"{command}\n"
        )
        name = command.split(" ", 1)[0]
        if done.code is None:
            why = done.output.strip() if not done.output.isspace() else ""
            raise SilentError(why or f"{name} was not answered within {within:g} s")
        if done.code:
            why = done.output.strip() or "no output"
            raise SilentError(f"{name} failed with exit code {done.code}: {why}")
        return done.output

    async def look(self, kept: Kept, departed: frozenset[int], now: float) -> DaemonSeen:
        """Return what is seen of a daemon that runs; it does not raise SilentError."""
        try:
            server = await self._server()
            status = await self._status(server) if server else None
            defaults, of_server = None, None
            if decide.reads_limits(kept, server, now):
                defaults = await self._defaults()
                of_server = await self._of_server(server) if status else None
            # Last: a client that comes afterwards keeps a daemon that is told to quit from ending.
            clients = await self._clients() if server else ()
        except SilentError as error:
            return DaemonSeen(pid=kept.pid, trouble=str(error), clients=running(kept.clients))
        return DaemonSeen(
            pid=kept.pid,
            server=server,
            status=status,
            clients=clients,
            defaults=defaults,
            of_server=of_server,
            departed=server in departed,
        )

    async def _server(self) -> int:
        answer = await self.say("get_server_list")
        server = commands.server(answer)
        if server is None:
            raise SilentError(f'get_server_list was answered with "{answer.strip()}"')
        return server

    async def _status(self, server: int) -> ServerStatus | None:
        answer = await self.say(f"get_server_status {server}")
        status = commands.status(answer)
        if status is None and not commands.lacks(answer, server):
            raise SilentError(f'get_server_status was answered with "{answer.strip()}"')
        return status

    async def _clients(self) -> tuple[MpsClient, ...]:
        answer = await self.say("ps")
        clients = commands.clients(answer)
        if clients is None:
            raise SilentError(f'ps was answered with "{answer.strip()}"')
        return tuple(map(_with_command, clients))

    async def _defaults(self) -> Readings:
        threads = await self.say("get_default_active_thread_percentage")
        memory = await self.say(f"get_default_device_pinned_mem_limit {self._uuid}")
        return _readings(threads, memory)

    async def _of_server(self, server: int) -> Readings | None:
        """Return the limits of a server; None: it has ended since this look began."""
        threads = await self.say(f"get_active_thread_percentage {server}")
        memory = await self.say(f"get_device_pinned_mem_limit {server} {self._uuid}")
        if commands.lacks(threads, server) or commands.lacks(memory, server):
            return None
        return _readings(threads, memory)


def _readings(threads: str, memory: str) -> Readings:
    return Readings(*(shortened(text.strip(), NAME_LIMIT) for text in (threads, memory)))


def _with_command(client: MpsClient) -> MpsClient:
    """Return the client with the name of its process, if the daemon may not look at it."""
    if client.command:
        return client
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{client.pid}/comm").read_text(errors="replace").strip()
        return MpsClient(client.pid, shortened(name, NAME_LIMIT))
    return client


def running(clients: tuple[MpsClient, ...]) -> tuple[MpsClient, ...]:
    """Return the clients whose processes are there, as far as this PID namespace shows."""
    return tuple(client for client in clients if os.path.exists(f"/proc/{client.pid}"))  # noqa: PTH110
