"""A keeper: the process that keeps the MPS daemon of one device, and tells how it is.

The daemon outlives its keeper: after a crash the next keeper adopts it, and its clients notice
nothing. Only the order to stop ends both. One asyncio loop, no threads of ours: each question to
the daemon is a process with a time limit, so neither heartbeats nor orders wait for it.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import zmq
from loguru import logger
from msgspec.structs import replace

from proto import bus
from proto.channel import Channel
from proto.child_loop import ChildLoop, Ending
from proto.control import ApplyNow, ExitCode, Limit, ServiceState, Stop
from proto.keeper import KeeperSettings
from proto.messages import MpsState
from proto.mps import MpsDaemon, Phase
from supervisor.mps import decide
from supervisor.mps.effects import Effects
from supervisor.mps.kept import DaemonSeen, Decision, Do, Kept, Leaving, Timing
from supervisor.mps.steps import SLOWLY, WAITING

SETTLE = 0.05
"""Seconds from a line of the log until the daemon's answers agree with it."""

VERIFY_WITHIN = 2.0
"""Seconds for a new keeper to find out how the daemon of the former one is."""

T = TypeVar("T")


def main(settings: KeeperSettings, channel: Channel, epoch: int) -> int:
    """Keep the daemon until the order to stop, or until the supervisor dies; return the code."""
    return asyncio.run(_live(settings, channel, epoch))


async def _live(settings: KeeperSettings, channel: Channel, epoch: int) -> int:
    return await Keeper(settings, channel, epoch).run()


class Keeper:
    """Looks at the daemon, decides, acts, and publishes."""

    def __init__(self, settings: KeeperSettings, channel: Channel, epoch: int) -> None:
        self._uuid = settings.uuid
        self._compute_mode = settings.compute_mode
        self._timing = Timing(settings.poll_interval, settings.hang_after)
        self._epoch = epoch
        self._sequence = 0
        self._kept = Kept(settings.share)
        self._warned = ""
        """The reason that was logged last, since the device was ready."""
        self._born = time.monotonic()
        self._since = time.time()
        self._effects = Effects(settings, self._on_news)
        self._news = asyncio.Event()
        """Set when a look should come soon."""
        self._told = asyncio.Event()
        """Set when it is known whether the node is under maintenance: then no daemon is started."""
        self._hurry = asyncio.Event()
        """Set when what is being done should be given up for an order."""
        self._life = ChildLoop(
            channel,
            {
                Limit: self._on_limit,
                ApplyNow: self._on_apply_now,
                ServiceState: self._on_service,
                Stop: self._on_stop,
            },
            self._on_beat,
        )
        self._telemetry = bus.TelemetryPublisher(zmq.Context(), settings.bus)

    async def run(self) -> int:
        """Run until the end; return the exit code."""
        return (await self._life.run(self._keep, self._greet)).code

    def _on_news(self) -> None:
        self._news.set()

    def _on_limit(self, order: Limit) -> None:
        before = self._timing
        self._timing = Timing(order.poll_interval or before.poll, order.hang_after or before.hang)
        # A device that is shared again stays, even if its clients were to be the last ones.
        drained = self._kept.ending is Leaving.DRAIN
        kept = replace(self._kept, ending=Leaving.NONE) if drained else self._kept
        self._become(decide.limited(kept, order.share))
        self._news.set()
        if order.compute_mode not in {None, self._compute_mode}:
            self._life.end(Ending(ExitCode.AGAIN))  # the next keeper adopts the daemon

    def _on_apply_now(self, _: ApplyNow) -> None:
        self._become(replace(self._kept, hurried=True))
        self._interrupt()

    def _on_service(self, state: ServiceState) -> None:
        self._told.set()
        if state.quiesced is not self._kept.quiesced:
            self._become(decide.maintained(self._kept, quiesced=state.quiesced))
            self._news.set()

    def _on_stop(self, order: Stop) -> None:
        ending = Leaving.DRAIN if order.withdraw else Leaving.NOW
        self._become(replace(self._kept, ending=ending))
        self._interrupt()

    def _interrupt(self) -> None:
        self._told.set()
        self._hurry.set()
        self._news.set()

    def _on_beat(self) -> None:
        self._effects.each_second()
        self._publish()

    async def _greet(self) -> None:
        while True:
            await self._telemetry.joined()
            self._publish()

    async def _keep(self) -> None:
        """Look, decide and act, again and again."""
        await self._told.wait()
        while True:
            self._news.clear()
            self._hurry.clear()  # the order that set it is known by now
            seen = await self._unless_hurried(self._effects.look(self._kept, time.monotonic()))
            if seen is not None:
                decision = self._decide(seen)
                if decision.do is not None:
                    await self._unless_hurried(self._do(decision.do))
                await self._rest(decision.wait)

    def _decide(self, seen: DaemonSeen) -> Decision:
        decision = decide.decide(self._kept, seen, time.monotonic(), self._timing)
        self._become(decision.kept)
        return decision

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until there is news."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
            await asyncio.sleep(SETTLE)

    async def _unless_hurried(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of *work*; None: an order came meanwhile, and it was given up."""
        task = asyncio.create_task(work)
        hurry = asyncio.create_task(self._hurry.wait())
        try:
            await asyncio.wait({task, hurry}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            self._hurry.clear()
            return None
        finally:
            for each in (task, hurry):
                each.cancel()
            await asyncio.gather(task, hurry, return_exceptions=True)

    async def _do(self, what: Do) -> None:
        match what:
            case Do.START:
                await self._seek(self._effects.start)
            case Do.REST:
                await self._seek(self._effects.rest)
                if not (self._kept.pid or self._kept.rests):
                    await self._rest(SLOWLY)
            case Do.END:
                await self._end()
            case _:
                await self._effects.do(what, self._kept)

    async def _seek(self, seek: Callable[[Kept, float], Awaitable[Kept]]) -> None:
        """Take what *seek* finds or starts, and the orders that came meanwhile."""
        before = self._kept
        found = await seek(before, time.monotonic())
        self._become(decide.ordered(found, before, self._kept))

    async def _end(self) -> None:
        """End, unless there is a daemon that nobody has looked for yet: the order came early.

        One that cannot be adopted may have clients, and ends with the service at the latest.
        """
        await self._seek(self._effects.find)
        if self._kept.pid:
            return
        if self._kept.ending is Leaving.NOW:
            await self._effects.kill_unadopted()
        if self._effects.unadopted():
            await self._rest(SLOWLY)
        else:
            await self._effects.put_back()
            self._life.end(Ending())

    def _become(self, kept: Kept) -> None:
        """Take what is known now; publish and log what changed."""
        before, self._kept = self._kept, kept
        if kept == before:
            return
        if kept.phase is not before.phase:
            self._since = time.time()
        if _shown(kept) != _shown(before):
            self._log()
        self._publish()

    def _log(self) -> None:
        kept = self._kept
        if kept.phase is Phase.READY:
            self._warned = ""
            logger.info("an MPS device is ready", uuid=self._uuid, daemon=kept.pid)
        elif kept.phase in {Phase.FAULT, Phase.FAILED}:
            # Each attempt goes through other phases, and comes back with the reason of the last.
            if (reason := _shown(kept)[1]) == self._warned:
                return
            self._warned = reason
            logger.warning(
                "an MPS device cannot be used",
                uuid=self._uuid,
                phase=kept.phase,
                reason=kept.detail,
            )
        elif kept.phase is Phase.DRAINING:
            logger.info("an MPS device is draining", uuid=self._uuid, reason=kept.detail)

    def _verifies(self) -> bool:
        """Return whether a daemon is being looked for, or one of a former keeper verified.

        Nobody is told of it for a moment: with a new keeper, the daemon is as ready as before.
        """
        kept = self._kept
        new = kept.phase is Phase.STARTING and (kept.adopted or not kept.pid)
        return new and not kept.failures and time.monotonic() - self._born < VERIFY_WITHIN

    def _publish(self) -> None:
        if self._verifies():
            return
        self._sequence += 1
        kept = self._kept
        daemon = MpsDaemon(
            uuid=self._uuid,
            phase=kept.phase,
            detail=kept.detail,
            since=self._since,
            pid=kept.pid,
            server=kept.server,
            status=kept.status,
            clients=kept.clients,
            share=kept.share,
            restarts=kept.restarts,
        )
        self._telemetry.publish(
            MpsState(epoch=self._epoch, sequence=self._sequence, daemons=(daemon,))
        )


def _shown(kept: Kept) -> tuple[Phase, str]:
    """Return what is logged when it changes; not how often, nor the clients that it waits for."""
    return kept.phase, kept.detail.partition(WAITING)[0].removesuffix(decide.OFTEN)
