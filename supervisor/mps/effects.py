"""What a keeper does to its daemon: start or adopt it, look at it, end it. It decides nothing."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from loguru import logger
from msgspec.structs import replace

from health import compute_mode
from health.compute_mode import Verb
from proto.keeper import ComputeMode, KeeperSettings
from proto.mps import log_folder, pipe_folder
from proto.running import Runner
from proto.safe_paths import in_words
from proto.texts import shortened
from supervisor.mps import commands, daemon, decide, folders, program
from supervisor.mps.compute_mode import MIG, ComputeModeError, change
from supervisor.mps.daemon import DEVICES, MARK, OPTIONS, Daemon, Found
from supervisor.mps.folders import FolderError
from supervisor.mps.kept import DaemonSeen, Do, Kept, Leaving
from supervisor.mps.log_tail import LogTail
from supervisor.mps.program import ProgramError
from supervisor.mps.shell import Shell, SilentError, running

COMMAND_LIMIT = 5.0
"""Most seconds for a command; hardware took 5 ms, or 0.3 s while a server starts."""

QUIT_WITHIN = 2.0
"""Seconds to wait for the answer to `quit`; the daemon goes on with it then."""

QUIT_NOW = "quit -t 1"
"""Ends the servers by force after a second."""

LOG_PAUSE = 0.1
"""Seconds between two readings of the log."""

STALE = ("control", "control_lock", "control_privileged", "log", "nvidia-cuda-mps-control.pid")
"""The files of a former daemon; every client could hold the lock, and so prevent a start."""

REFUSALS = (OSError, FolderError, ProgramError, ComputeModeError)
"""Why a daemon cannot be started."""


class Effects:
    """Holds the daemon, its log, and everything that reaches it."""

    def __init__(self, settings: KeeperSettings, on_news: Callable[[], None]) -> None:
        """Call *on_news* when the daemon has ended, or its log calls for a look."""
        self._settings = settings
        self._on_news = on_news
        self._pipe = pipe_folder(settings.root, settings.uuid)
        self._runner = Runner()
        self._shell = Shell(
            self._runner, settings.uuid, min(COMMAND_LIMIT, settings.hang_after / 3)
        )
        self._daemon: Daemon | None = None
        self._tail: LogTail | None = None
        self._without_mode = False
        self._without_shm = ""
        self._sought = False

    async def find(self, kept: Kept, now: float) -> Kept:
        """Adopt the daemon that runs, if that was not done yet; return what is known then."""
        sought = self._sought or not daemon.exists(self._pipe)
        return kept if sought else await self.start(kept, now)

    async def rest(self, kept: Kept, now: float) -> Kept:
        """Adopt the daemon that runs, or put the compute mode back; return what is known then."""
        kept = await self.find(kept, now)
        if kept.pid or self.unadopted():
            return kept
        self._sought = True
        await self.put_back()
        return replace(kept, rests=True)

    def unadopted(self) -> bool:
        """Return whether a daemon runs that could not be adopted; see what `start` returned."""
        return not self._sought and daemon.exists(self._pipe)

    async def kill_unadopted(self) -> None:
        """Kill a daemon that could not be adopted, with its clients."""
        found = None if self._sought else daemon.running(self._pipe)
        if found:
            left = found[0]
            reason = "it cannot be adopted"
            uuid = self._settings.uuid
            logger.warning("killing an MPS daemon", uuid=uuid, pid=left.pid, reason=reason)
            try:
                await left.kill()
            finally:
                os.close(left.ended_at)

    async def start(self, kept: Kept, now: float) -> Kept:
        """Adopt the daemon that runs, or start one; return what is known then."""
        try:
            tail = await self._prepare()
            self._sought = True
            found = daemon.running(self._pipe)
            if found:
                return self._adopt(kept, tail, *found, now)
            await self._end_servers()
            return self._start(kept, tail, now)
        except REFUSALS as error:
            return decide.not_started(kept, shortened(in_words(error)), now)

    async def _prepare(self) -> LogTail:
        """Make everything that a daemon needs; return its log."""
        folders.prepare(self._settings)
        self._program = program.find(self._settings)
        self._shell.use(self._program, program.environment(self._settings, self._program))
        if self._tail is None:
            self._tail = LogTail(
                log_folder(self._settings.root, self._settings.uuid), self._settings.uuid
            )
            self._follow()
        refused = folders.share_memory(self._settings.root, mounts=self._settings.mounts)
        if refused and refused != self._without_shm:
            logger.warning("cannot mount the shared memory of MPS clients", reason=refused)
        self._without_shm = refused
        await self._change_mode(adopting=daemon.exists(self._pipe))
        return self._tail

    async def _change_mode(self, *, adopting: bool) -> None:
        """Give the GPU the compute mode of the settings; a MIG instance has none of its own."""
        uuid, folder = self._settings.uuid, self._settings.state_folder
        if uuid.startswith(MIG):
            return
        known = uuid in compute_mode.remembered(Path(folder))
        exclusive = self._settings.compute_mode is ComputeMode.EXCLUSIVE_PROCESS
        # For each new daemon: somebody may have changed the mode since the last one.
        if not (known and adopting if exclusive else not known):
            supported = await self._mode(Verb.TAKE if exclusive else Verb.PUT_BACK)
            if not supported and not self._without_mode:
                logger.warning("the GPU has no compute modes, limits can be evaded", uuid=uuid)
            self._without_mode = not supported

    async def _mode(self, verb: Verb) -> bool:
        binding = (self._settings.binding, self._settings.binding_argument)
        folder, uuid = self._settings.state_folder, self._settings.uuid
        return await change(self._runner, verb, folder, uuid, binding)

    def _adopt(self, kept: Kept, tail: LogTail, running: Daemon, found: Found, now: float) -> Kept:
        uuid = self._settings.uuid
        as_ours = found.options == OPTIONS and found.environment.get(DEVICES) == uuid
        same = as_ours and found.environment.get(MARK) == daemon.mark(kept.wanted)
        self._take(running)
        tail.catch_up()
        logger.info("adopted an MPS daemon that runs", uuid=uuid, pid=running.pid, same=same)
        return decide.adopted(kept, running.pid, kept.wanted if same else None, now)

    def _start(self, kept: Kept, tail: LogTail, now: float) -> Kept:
        for name in STALE:
            Path(self._pipe, name).unlink(missing_ok=True)
        environment = program.of_daemon(self._settings, self._program)
        environment[MARK] = daemon.mark(kept.wanted)
        output = tail.fresh()
        try:
            new = daemon.start(self._program, environment, output)
        finally:
            os.close(output)
        self._take(new)
        logger.info(
            "started an MPS daemon",
            uuid=self._settings.uuid,
            pid=new.pid,
            memory_mib=kept.wanted.memory_mib,
            threads=kept.wanted.threads,
        )
        return decide.started(kept, new.pid, now)

    def _take(self, running: Daemon) -> None:
        self._daemon = running
        asyncio.get_running_loop().add_reader(running.ended_at, self._on_end)

    def _on_end(self) -> None:
        if self._daemon:  # once: the descriptor stays readable
            asyncio.get_running_loop().remove_reader(self._daemon.ended_at)
        self._on_news()

    def _follow(self) -> None:
        if self._tail and self._tail.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._tail.fileno(), self._on_log)

    def _on_log(self) -> None:
        self._read_log()
        # Not at once again: a client can write to the log without end.
        loop = asyncio.get_running_loop()
        if self._tail and loop.remove_reader(self._tail.fileno()):
            loop.call_later(LOG_PAUSE, self._follow)

    def _read_log(self) -> None:
        if self._tail and self._tail.read():
            self._on_news()

    def each_second(self) -> None:
        """Go on with the log."""
        if self._tail:
            self._read_log()
            self._tail.each_second()

    async def look(self, kept: Kept, now: float) -> DaemonSeen:
        """Return what is seen of the daemon."""
        if self._daemon is None or self._daemon.ended():
            return self._without_daemon()
        forced = kept.quitting is not None and kept.forced
        if forced or kept.ending is Leaving.NOW:  # no time for one that does not answer
            return DaemonSeen(pid=kept.pid, trouble="it ends", clients=running(kept.clients))
        departed = self._tail.told.departed if self._tail else frozenset()
        seen = await self._shell.look(kept, departed, now)
        return self._without_daemon() if self._daemon.ended() else seen

    def _without_daemon(self) -> DaemonSeen:
        if self._daemon is None:
            return DaemonSeen()
        ended, self._daemon = self._daemon, None
        asyncio.get_running_loop().remove_reader(ended.ended_at)
        words = self._tail.last_words() if self._tail else ""
        code, how = ended.end()
        return DaemonSeen(end=f"{how}: {words}" if code and words else how)

    async def do(self, what: Do, kept: Kept) -> None:
        """Do something to the daemon that runs; the next look shows what came of it."""
        match what:
            case Do.SEND_LIMITS:
                for command in commands.settings(kept.wanted, self._settings.uuid):
                    await self._say(command)
            case Do.START_SERVER:  # so that it is there before the first client
                await self._say(f"start_server -uid {os.geteuid()}")
            case Do.SHUT_SERVER:
                logger.info("replacing an MPS server", uuid=self._settings.uuid, pid=kept.closing)
                await self._say(f"shutdown_server {kept.closing}")
            case Do.QUIT | Do.QUIT_NOW:
                uuid, reason = self._settings.uuid, kept.detail
                logger.info("ending an MPS daemon", uuid=uuid, pid=kept.pid, reason=reason)
                await self._say(QUIT_NOW if what is Do.QUIT_NOW else "quit", QUIT_WITHIN)
            case Do.KILL:
                await self._kill(kept)
            case Do.START | Do.REST | Do.END:
                raise ValueError(f"cannot {what.value} without an answer")

    async def _kill(self, kept: Kept) -> None:
        """Kill the daemon; its server ends with it."""
        if self._daemon:
            uuid, reason = self._settings.uuid, kept.detail
            logger.warning("killing an MPS daemon", uuid=uuid, pid=kept.pid, reason=reason)
            await self._daemon.kill()

    async def _end_servers(self) -> None:
        """End what a daemon has left behind: a server that hangs does not notice its end."""

        def tell(pid: int) -> None:
            uuid = self._settings.uuid
            logger.warning("killing an MPS server without a daemon", uuid=uuid, pid=pid)

        await daemon.end_servers(self._pipe, tell)

    async def put_back(self) -> None:
        """Give the GPU the compute mode back that it had; no server is left then."""
        await self._end_servers()
        uuid = self._settings.uuid
        try:
            if uuid in compute_mode.remembered(Path(self._settings.state_folder)):
                await self._mode(Verb.PUT_BACK)
        except (ComputeModeError, OSError) as error:
            logger.error("cannot put a compute mode back", uuid=uuid, error=in_words(error))

    async def _say(self, command: str, limit: float | None = None) -> None:
        """Send a command whose effect the next look shows."""
        try:
            await self._shell.say(command, limit)
        except SilentError as error:
            logger.debug("an MPS daemon did not answer", uuid=self._settings.uuid, error=str(error))
