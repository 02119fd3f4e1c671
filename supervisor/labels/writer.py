"""Keeps the node's labels at one output: decides with `schedule`, and carries it out.

The file's own process and the cluster process both have one. It may be killed at any time: what it
writes is made from the supervisor's newest order and the newest state on the health bus.
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable

from loguru import logger

from proto.control import LabelNode, NodeLabels
from proto.fitness import LastWord
from proto.labels import LabelOutput, LabelSettings
from proto.pace import Pace, Progress, due
from supervisor.labels.gpu_instances import gpu_instances
from supervisor.labels.machine_labels import MachineFacts
from supervisor.labels.machine_type import machine_type
from supervisor.labels.node_labels import labels
from supervisor.labels.schedule import Content

Put = Callable[[Content], Awaitable[bool]]
"""Brings the output in line with the content; returns whether it had to write. OutputError."""


class OutputError(Exception):
    """Labels that cannot be written; the message is one line."""


class LabelWriter:
    """Holds what the node's labels should be, and writes it when it is due."""

    def __init__(
        self, settings: LabelSettings, pace: Pace, put: Put, tell: Callable[[NodeLabels], object]
    ) -> None:
        """Write with *put* at this *pace*, and *tell* the supervisor whether that went well."""
        self._settings = settings
        self._pace = pace
        self._put = put
        self._tell = tell
        self._order: LabelNode | None = None
        self._word: LastWord | None = None
        self._basis: tuple[LabelNode, frozenset[str] | None] | None = None
        """What *wanted* was made of."""
        self._wanted: Content | None = None
        self._progress: Progress[Content] = Progress()
        self._reason = ""
        """Why the last attempt failed."""
        self._news = asyncio.Event()
        """Set when *wanted* has changed."""

    def on_order(self, order: LabelNode) -> None:
        """Take the supervisor's newest *order*."""
        self._order = order
        self._refresh()

    def on_word(self, word: LastWord) -> None:
        """Take the newest *word* about the health of the devices."""
        self._word = word
        if self._settings.health:
            self._refresh()

    async def run(self) -> None:
        """Write the labels whenever that is due, without end."""
        while True:
            self._news.clear()
            wanted, now = self._wanted, time.monotonic()
            when = due(self._pace, self._progress, wanted)
            if wanted is None or when > now:
                await self._wait(when - now)
            else:
                await self._write(wanted)

    def renew(self) -> None:
        """Write again soon, though nothing has changed."""
        self._progress = self._progress.stale()
        self._news.set()

    async def write_again(self) -> None:
        """Write once more what was written last, so that it lasts while nobody runs."""
        if self._progress.done:
            await self._write(self._progress.done)

    async def _wait(self, seconds: float) -> None:
        """Wait until something else is wanted, but no longer than *seconds*."""
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _write(self, wanted: Content) -> None:
        output = str(self._settings.output)
        try:
            wrote = await self._put(wanted)
        except OutputError as error:
            if str(error) != self._reason:
                self._reason = str(error)
                logger.warning(
                    "cannot write the node's labels, retrying", output=output, reason=self._reason
                )
            chance = random.random()  # noqa: S311 - no secret
            self._progress = self._progress.failed(time.monotonic(), chance)
        else:
            if self._reason:
                logger.info("the node's labels are written again", output=output)
            self._reason = ""
            if wrote and wanted != self._progress.done:
                logger.info("wrote the node's labels", output=output, labels=len(wanted.labels))
            self._progress = self._progress.went_well(wanted, time.monotonic(), wrote=wrote)
        self._tell(NodeLabels(output, self._reason))

    def _refresh(self) -> None:
        """Work out what the labels should be."""
        order = self._order
        # Until the driver has answered, what is on the node may be more than what we know.
        if order is None or not order.inventory.driver_version:
            return
        if not self._is_told_of_health(order):
            return
        basis = (order, self._healthy())
        if basis == self._basis:
            return
        self._basis = basis
        wanted = self._content(*basis)
        if wanted != self._wanted:
            self._wanted = wanted
            self._news.set()

    def _is_told_of_health(self, order: LabelNode) -> bool:
        """Return whether the health of all devices is known, if the labels tell of it.

        Order and state come on different ways: a GPU that only one of them has is no news yet.
        """
        if not self._settings.health:
            return True
        if self._word is None or self._word.state is None:
            return False
        known = {device.uuid for device in self._word.state.health}
        return {gpu.uuid for gpu in order.inventory.gpus} <= known

    def _content(self, order: LabelNode, healthy: frozenset[str] | None) -> Content:
        settings = self._settings
        facts = MachineFacts(
            machine_type(settings.machine_type_file),
            int(order.loaded) if settings.timestamp else None,
        )
        found = labels(order.inventory, order.advertising, facts, healthy)
        featured = settings.output is LabelOutput.NODEFEATURE
        return Content(found, gpu_instances(order.inventory) if featured else ())

    def _healthy(self) -> frozenset[str] | None:
        if not self._settings.health or self._word is None or self._word.state is None:
            return None
        fitness = self._word.fitness(time.monotonic(), self._settings.stale_after)
        devices = (device.uuid for device in self._word.state.health)
        return frozenset(uuid for uuid in devices if not fitness.reasons(uuid))
