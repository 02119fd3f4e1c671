"""The prober process: run the operator's own command on free GPUs, one at a time.

    node states ──┐
    who holds it ─┼── decide.py ── the command ── report to the supervisor, for the monitor
    maintenance ──┘

Nothing waits for this process. The command has a time limit, and is killed as soon as a container
gets the GPU, maintenance begins, or this process ends.
"""

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path

import zmq
from loguru import logger

from proto import bus, host
from proto.channel import Channel
from proto.child_loop import ChildLoop
from proto.control import Unknown
from proto.fitness import LastWord
from proto.holdings import Holdings
from proto.messages import Gpu, NodeState
from proto.probe import Probed, ProbeSettings
from proto.running import Result, Runner
from proto.safe_paths import UnsafeError, require_safe_program
from supervisor.prober import decide, limits

LOOK = 5.0
"""Seconds after which this process looks again which GPU is due, without any news."""

DYING_WITH_US = (sys.executable, "-I", "-S", host.__file__)
"""The command that runs another one so that it ends with this process."""


def main(settings: ProbeSettings, channel: Channel, epoch: int) -> int:
    """Run the prober until the order to stop; return the exit code."""
    del epoch  # it publishes nothing on the bus
    return asyncio.run(_live(settings, channel))


async def _live(settings: ProbeSettings, channel: Channel) -> int:
    return await Prober(settings, channel).run()


class Prober:
    """Keeps what is known of the node, and probes the GPUs that are due."""

    def __init__(self, settings: ProbeSettings, channel: Channel) -> None:
        self._settings = settings
        self._channel = channel
        self._word = LastWord(time.monotonic())
        self._told_held: frozenset[str] | None = None
        self._held_at = 0.0
        self._news = asyncio.Event()
        self._runner = Runner(limits.apply, group=True)
        self._at: dict[str, float] = {}
        """When each GPU was probed last, by UUID."""
        self._told = Probed({})
        self._shown: decide.Shown | None = None
        self._problem = ""
        self._life = ChildLoop(
            channel,
            {Holdings: self._on_held, Unknown: self._on_unknown, Probed: self._on_probed},
            _nothing,
        )

    async def run(self) -> int:
        """Run until the order to stop, or until the supervisor dies; return the exit code."""
        return (await self._life.run(self._listen, self._probe)).code

    def _on_held(self, order: Holdings) -> None:
        self._told_held = None if order.uuids is None else frozenset(order.uuids)
        self._held_at = time.monotonic()
        self._news.set()

    @property
    def _held(self) -> frozenset[str] | None:
        return decide.listed(self._told_held, self._held_at, time.monotonic())

    def _on_unknown(self, order: Unknown) -> None:
        self._word = self._word.denied(order)
        self._news.set()

    def _on_probed(self, order: Probed) -> None:
        """Take over what the prober before this one has told: a pass must end its failures."""
        self._told = decide.taken_over(self._told, order, self._at)

    async def _listen(self) -> None:
        inbox = bus.health_subscriber(zmq.Context(), self._settings.health_bus)
        async for state in bus.node_states(inbox):
            self._word = self._word.after(state, time.monotonic())
            self._forget_marked(state)
            self._news.set()

    def _forget_marked(self, state: NodeState) -> None:
        before, self._told = self._told, decide.after_marks(self._told, self._shown, state)
        self._shown = decide.shown(state, self._told)
        if self._told != before:
            self._channel.send(self._told)

    def _state(self) -> NodeState | None:
        """Return the newest state of the node; None: nobody knows it now."""
        fitness = self._word.fitness(time.monotonic(), self._settings.stale_after)
        return None if fitness.blind else self._word.state

    async def _probe(self) -> None:
        while True:
            state, now = self._state(), time.monotonic()
            interval = self._settings.interval
            gpu = state and decide.next_gpu(state, self._held, self._at, now, interval)
            if gpu and await self._probe_one(gpu):
                continue
            await self._wait(LOOK)

    async def _wait(self, seconds: float | None) -> None:
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    async def _probe_one(self, gpu: Gpu) -> bool:
        """Probe a GPU; return whether there was a result."""
        try:
            program = Path(self._settings.command[0])
            require_safe_program(program)
            if not os.access(program, os.X_OK):
                return self._refused(f'"{program}" is not executable')
        except (OSError, UnsafeError) as error:
            return self._refused(str(error))
        run = asyncio.create_task(self._run(gpu))
        try:
            while not run.done():
                state = self._state()
                if state is None or not decide.is_free(state, gpu.uuid, self._held):
                    logger.info("stopped the probe of a GPU: it is no longer free", uuid=gpu.uuid)
                    return False
                self._news.clear()
                news = asyncio.create_task(self._news.wait())
                limit = self._settings.stale_after
                await asyncio.wait({run, news}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
        finally:
            run.cancel()
            await asyncio.wait({run})  # so that nothing of the command is left
        result = run.result()
        if not result.started:
            return self._refused(result.output)
        self._problem, self._at[gpu.uuid] = "", time.monotonic()
        self._tell(gpu, decide.failure(result, self._settings.timeout))
        return True

    async def _run(self, gpu: Gpu) -> Result:
        command = (*DYING_WITH_US, str(os.getpid()), *self._settings.command)
        around = {**os.environ, **decide.environment(gpu)}
        return await self._runner.run(command, around, self._settings.timeout)

    def _refused(self, why: str) -> bool:
        if why != self._problem:
            self._problem = why
            logger.warning("cannot run the probe of a GPU", reason=why)
        return False

    def _tell(self, gpu: Gpu, why: str) -> None:
        before, self._told = self._told, decide.after(self._told, gpu.uuid, why)
        if why:
            logger.warning("the probe of a GPU failed", uuid=gpu.uuid, reason=why)
        elif gpu.uuid in before.failed:
            logger.info("the probe of a GPU passes again", uuid=gpu.uuid)
        # Also without a change: an operator may have marked the GPU healthy since the last probe.
        if why or self._told != before:
            self._channel.send(self._told)


def _nothing() -> None:
    """Do nothing at a heartbeat."""
