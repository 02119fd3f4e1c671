"""The process that uses the Kubernetes API: for Events, the node's condition, and its labels.

It receives the node's state on the health bus and orders from the supervisor. No other process
waits for it, whatever the API server does. It may be killed at any time, as everything that it
sends is made from the newest state.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import zmq
from loguru import logger

from health.ledger import BOOT_ID
from proto import bus
from proto.channel import Channel
from proto.child_loop import ChildLoop, Orders, Task
from proto.cluster import ClusterSettings, Unlabelled
from proto.control import LabelNode, ServiceState, Unknown
from proto.fitness import LastWord
from proto.holdings import Holdings
from proto.labels import LabelSettings
from proto.messages import NodeState
from proto.mps_listener import MpsListener
from proto.pace import Pace, Progress, due
from proto.texts import shortened
from supervisor.cluster import (
    label_outputs,
    node_condition,
    node_events,
    node_taint,
    node_view,
)
from supervisor.cluster.apiserver import ApiServer, stamp
from supervisor.cluster.backoff import Backoff
from supervisor.cluster.connection import TroubleError
from supervisor.cluster.dra_look import DraLook
from supervisor.cluster.label_report import told
from supervisor.cluster.node_condition import Conditions
from supervisor.cluster.node_events import NodeEvent, Outbox
from supervisor.cluster.node_taint import Outage, Taint
from supervisor.labels.schedule import api_pace
from supervisor.labels.writer import LabelWriter

STEADY = 10.0
"""Seconds after which a watch counts as working. One that the server ends earlier is a failure in
a row with the last one: its right may be missing, though the node can be read."""

FOR_GOOD = {400, 422}
"""HTTP statuses after which the same Event is not sent again: they would not change."""

Content = TypeVar("Content")


def main(settings: ClusterSettings, channel: Channel, epoch: int) -> int:
    """Run the cluster process until the order to stop; return the exit code."""
    del epoch  # this process publishes nothing on the bus
    return asyncio.run(_live(settings, channel))


async def _live(settings: ClusterSettings, channel: Channel) -> int:
    return await Cluster(settings, channel).run()


class Cluster:
    """Keeps the newest view of the node, and sends what changed to the API server."""

    def __init__(self, settings: ClusterSettings, channel: Channel) -> None:
        self._settings = settings
        self._channel = channel
        self._boot_id = BOOT_ID.read_text().strip()
        self._api = ApiServer(settings.node)
        self._word = LastWord(time.monotonic())
        self._view: node_view.NodeView | None = None
        self._held: frozenset[str] | None = None  # the devices that containers hold, if known
        self._outage: Outage | None = None
        self._outbox = Outbox()
        self._news = asyncio.Event()
        """Set while Events wait to be sent."""
        self._spoken = asyncio.Event()
        """Set when a state of the node arrives, changed or not."""
        self._context = zmq.Context()
        self._mps = MpsListener(self._context, settings.mps_bus, self._refresh)
        self._dra = DraLook(self._api, settings.node, channel.send) if settings.dra else None
        self._label_writer = self._make_label_writer(settings.labels) if settings.labels else None
        orders: Orders = {
            Unknown: self._on_unknown,
            ServiceState: self._on_service,
            Holdings: self._on_held,
        }
        if self._label_writer:
            orders = {**orders, LabelNode: self._label_writer.on_order}
        self._life = ChildLoop(channel, orders, self._on_beat)

    def _make_label_writer(self, settings: LabelSettings) -> LabelWriter:
        put = label_outputs.output(self._api, settings, self._settings.node).put
        return LabelWriter(settings, api_pace(self._settings.node), put, self._channel.send)

    async def run(self) -> int:
        """Run until the order to stop, or until the supervisor dies; return the exit code."""
        endless: list[Task] = []
        labels = self._settings.labels
        mine = self._settings.events or self._settings.condition or self._settings.taint
        if mine or self._dra or (labels and labels.health):
            endless += [self._listen, self._mps.follow]
        if self._settings.events:
            endless.append(self._send_events)
        if self._settings.condition:
            endless.append(self._keep_condition)
        if self._settings.taint:
            endless.append(self._keep_taint)
        if self._dra:
            endless.append(self._dra.run)
        if self._settings.label:
            endless.append(self._follow_label)
        if self._label_writer:
            endless.append(self._label_writer.run)
        return (await self._life.run(*endless)).code

    def _on_unknown(self, order: Unknown) -> None:
        self._word = self._word.denied(order)
        self._refresh()
        self._spoken.set()

    def _on_service(self, state: ServiceState) -> None:
        self._mps.want(state.mps)
        if self._dra:
            self._dra.on_service(state)

    def _on_held(self, order: Holdings) -> None:
        held = None if order.uuids is None else frozenset(order.uuids)
        if held != self._held:
            self._held = held
            self._refresh()
            self._spoken.set()

    def _on_beat(self) -> None:
        now, stale_after = time.monotonic(), self._settings.stale_after
        if self._word.silent(now, stale_after) or self._mps.silent(now, stale_after):
            self._refresh()
        if self._outbox.left_out:
            self._sum_up()

    async def _listen(self) -> None:
        inbox = bus.health_subscriber(self._context, self._settings.health_bus)
        with contextlib.closing(inbox):
            async for state in bus.node_states(inbox):
                self.on_state(state)

    def on_state(self, state: NodeState) -> None:
        """Take the monitor's newest *state*."""
        self._word = self._word.after(state, time.monotonic())
        if self._dra:
            self._dra.on_state(state)
        self._refresh()
        self._spoken.set()

    def _refresh(self) -> None:
        """Make a view from the newest state, and queue Events for what changed."""
        if self._label_writer:
            self._label_writer.on_word(self._word)
        now, stale_after = time.monotonic(), self._settings.stale_after
        # Else there would be an Event for each device of MPS whenever this process starts.
        if self._word.state is None or not self._mps.settled(now):
            return
        fitness = self._word.fitness(now, stale_after, self._mps.reasons(now, stale_after))
        view = node_view.view(self._word.state, fitness, self._held)
        before, self._view = self._view, view
        self._outage = (self._outage or Outage()).after(view, now)
        if self._settings.events and view != before:
            for event in node_events.decide(before, view, time.time()):
                self._put(event)

    def _put(self, event: NodeEvent) -> None:
        name = event.name(self._settings.node, self._boot_id)
        self._outbox = self._outbox.put(name, event, time.monotonic())
        self._news.set()

    def _sum_up(self) -> None:
        node, boot_id = self._settings.node, self._boot_id
        self._outbox = self._outbox.sum_up(node, boot_id, time.time(), time.monotonic())
        self._news.set()

    async def _send_events(self) -> None:
        backoff = Backoff("events")
        while True:
            await self._news.wait()
            self._news.clear()
            while self._outbox.waiting:
                name, event = next(iter(self._outbox.waiting.items()))
                try:
                    await self._api.send(name, event)
                except TroubleError as error:
                    pause = backoff.failed(str(error))
                    if error.code not in FOR_GOOD:
                        await asyncio.sleep(pause)
                        continue
                else:
                    backoff.went_well()
                self._outbox = self._outbox.without(name, event)

    async def _keep_condition(self) -> None:
        pace = node_condition.pace(self._settings.node)
        await self._keep("condition", pace, self._wanted_conditions, self._send_conditions)

    def _wanted_conditions(self) -> Conditions | None:
        return node_condition.conditions(self._view, self._boot_id) if self._view else None

    async def _keep_taint(self) -> None:
        pace = node_taint.pace(self._settings.node)
        await self._keep("taint", pace, self._wanted_taint, self._send_taint)

    def _wanted_taint(self) -> Taint | None:
        return self._outage.wanted(time.monotonic()) if self._outage else None

    async def _keep(
        self,
        use: str,
        pace: Pace,
        wanted_now: Callable[[], Content | None],
        send: Callable[[Content, Content | None], Awaitable[bool]],
    ) -> None:
        """Send what is wanted on a change, and again each renewal; `send` returns if it wrote."""
        backoff = Backoff(use)
        progress: Progress[Content] = Progress()
        while True:
            wanted = await self._due(pace, progress, wanted_now)
            try:
                wrote = await send(wanted, progress.done)
            except TroubleError as error:
                backoff.failed(str(error))
                chance = random.random()  # noqa: S311 - no secret
                progress = progress.failed(time.monotonic(), chance)
            else:
                backoff.went_well()
                progress = progress.went_well(wanted, time.monotonic(), wrote=wrote)

    async def _due(
        self, pace: Pace, progress: Progress[Content], wanted_now: Callable[[], Content | None]
    ) -> Content:
        """Wait until something must be sent; return it.

        While no node state arrives there is no heartbeat: an old heartbeat means unknown.
        """
        pause = None
        while True:
            if (wanted := wanted_now()) is not None:
                left = due(pace, progress, wanted) - time.monotonic()
                if left <= 0:
                    return wanted
                pause = None if wanted == progress.done else left
            self._spoken.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._spoken.wait()

    async def _send_conditions(self, wanted: Conditions, sent: Conditions | None) -> bool:
        """Bring the conditions in line with what is *wanted*; return whether that took a write."""
        if sent is None:
            # Our restart is not a transition of a condition, so read them first. In a rollout most
            # nodes find them right; their next heartbeat comes when it is their turn.
            there = await self._api.conditions()
            if all(there.get(c.type) == (str(c.status), c.message) for c in wanted):
                return False
            before = {kind: status for kind, (status, _) in there.items()}
        else:
            before = {c.type: str(c.status) for c in sent}
        changed = {c.type for c in wanted if before.get(c.type) != str(c.status)}
        await self._api.patch_status(node_condition.patch(wanted, stamp(time.time()), changed))
        return True

    async def _send_taint(self, wanted: Taint, sent: Taint | None) -> bool:
        """Set or remove the node's taint as *wanted*; return whether that took a write."""
        del sent  # others may have changed it
        version, taints = await self._api.taints()
        after = node_taint.after(taints, wanted)
        if after == taints:
            return False
        await self._api.set_taints(version, after)
        logger.info("changed the taint of the node", value=wanted.value)
        return True

    async def _follow_label(self) -> None:
        backoff = Backoff("label")
        while True:
            steady = asyncio.get_running_loop().call_later(STEADY, backoff.is_steady)
            try:
                async for value in self._api.labels(self._settings.label):
                    self._channel.send(told(value))
            except TroubleError as error:
                steady.cancel()
                self._channel.send(Unlabelled(shortened(str(error))))
                await asyncio.sleep(backoff.failed(str(error)))
