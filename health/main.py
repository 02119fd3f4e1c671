"""The monitor process: enumerate the node, then watch for faults and publish the node's state.

It sends inventory and heartbeats to the supervisor over its channel and takes orders from it. It
publishes NodeStates on the health bus: on a change, for a new subscriber, and every second.
"""

import math
import time
from pathlib import Path

import msgspec
import zmq
from loguru import logger

from health import inventory, log_lines, verdict
from health.event_thread import Sight, Watching
from health.events import EventWatch
from health.ledger import Ledger
from health.looks import look_at_all
from health.nvml import Hint, NvmlError, XidEvent
from health.startup import NotReadyError, Start, start
from proto.bus import HealthPublisher
from proto.channel import Channel, ClosedError
from proto.control import Beat, ExitCode, Inventoried, Marked, MarkHealthy, Ready, Stop, until_beat
from proto.messages import DeviceState, NodeState, XidCount
from proto.monitor import MonitorSettings

SOON = 1.0
"""Seconds from an event to the check that it causes, so that a storm of events causes one check."""


def main(settings: MonitorSettings, channel: Channel, epoch: int) -> int:
    """Run the monitor and return its exit code; NOT_READY if the driver cannot be used."""
    ledger = Ledger(Path(settings.state_folder))
    try:
        begun = start(settings, ledger)
    except NotReadyError as error:
        channel.send(error.report)
        return ExitCode.NOT_READY
    return Monitor(begun, ledger, settings, channel, epoch).run()


class Monitor:
    """Watches the node from the first inventory until the order to stop."""

    def __init__(
        self,
        begun: Start,
        ledger: Ledger,
        settings: MonitorSettings,
        channel: Channel,
        epoch: int,
    ) -> None:
        self._nvml = begun.nvml
        self._roots = begun.roots
        self._bound = begun.bound
        self._found = begun.found
        self._settings = settings
        self._ledger = ledger
        self._places = begun.found.places()
        self._conditions: verdict.Conditions = ledger.read(self._places, begun.bound)
        self._watch = EventWatch(begun.nvml, begun.found.handles)
        self._publisher = HealthPublisher(zmq.Context(), settings.paths.health_bus)
        self._channel = channel
        self._epoch = epoch
        self._sequence = 0
        self._xids: dict[tuple[str, int], XidCount] = {}
        # Computed once, so that published times do not change from message to message.
        self._booted = round(time.time() - time.monotonic(), 3)
        self._actions: dict[str, int | None] = {}
        self._had_access = False
        self._look_at = 0.0
        self._rescan_at = time.monotonic() + settings.rescan_interval
        self._publish_at = 0.0
        self._code: ExitCode | None = None
        """The exit code, as soon as the monitor has to end."""

    def run(self) -> int:
        """Report the inventory, then watch the node until there is a reason to end."""
        for failed in self._found.inventory.failed:
            logger.error("cannot enumerate a GPU", index=failed.index, error=failed.error)
        log_lines.restored(self._conditions)
        self._tell_inventory()
        self._channel.send(Ready())
        while self._code is None:
            self._on_deadlines(time.monotonic())
            self._wait(time.monotonic())
        self._watch.end()
        return self._code

    def _tell_inventory(self) -> None:
        without_links = msgspec.structs.replace(self._found.inventory, links=())
        self._channel.send(Inventoried(inventory=without_links))

    def _wait(self, now: float) -> None:
        poller = zmq.Poller()
        poller.register(self._publisher.socket, zmq.POLLIN)
        poller.register(self._channel.fileno(), zmq.POLLIN)
        if (seen := self._watch.fileno()) is not None:
            poller.register(seen, zmq.POLLIN)
        deadlines = [self._publish_at, self._look_at, self._rescan_at]
        soonest = min(*deadlines, self._watch.again_at or self._publish_at)
        ready = dict(poller.poll(math.ceil(max(0.0, soonest - now) * 1000)))
        if seen in ready:
            self._on_seen(time.monotonic())
        if self._publisher.socket in ready and self._publisher.joined():
            self._publish()
        if self._channel.fileno() in ready:
            self._on_order()

    def _on_deadlines(self, now: float) -> None:
        if now >= self._rescan_at:
            self._rescan_at = now + self._settings.rescan_interval
            self._rescan()
        if now >= self._look_at:
            self._look_at = now + self._settings.poll_interval
            self._look(now, self._conditions)
        self._follow(now)
        if self._watch.find_overdue(self._settings.hang_after, now):
            self._publish()
            logger.error("the driver hangs", call="nvmlEventSetWait")
        if now >= self._publish_at:
            if not self._publisher.reachable():
                # Cleaners of /run delete it; a process that connects from now on would get nothing.
                logger.warning("restarting the health monitor: its socket file was deleted")
                self._code = ExitCode.AGAIN
            self._publish_at = now + until_beat(now)
            self._channel.send(Beat())
            self._publish()

    def _on_order(self) -> None:
        try:
            while order := self._channel.receive():
                match order:
                    case MarkHealthy():
                        self._on_mark(order.device, time.monotonic())
                    case Stop():
                        self._code = ExitCode.DONE
                    case _:
                        logger.error(
                            "ignored an order that the health monitor does not know",
                            order=type(order).__name__,
                        )
        except ClosedError:
            self._code = ExitCode.DONE

    def _on_mark(self, device: str, now: float) -> None:
        """Clear the faults of a device for an operator; problems that a check still finds stay."""
        uuids = verdict.named(self._found.inventory, device)
        if not uuids:
            self._channel.send(Marked(error=f'cannot find a GPU or MIG instance "{device}"'))
            return
        logger.info("an operator marked a device healthy", device=device)
        # Check before publishing: what a check still shows, the operator's word cannot clear.
        self._look(now, verdict.after_marks(self._conditions, uuids, now))
        self._channel.send(Marked())

    def _look(self, now: float, conditions: verdict.Conditions) -> None:
        """Check every GPU for faults that no event reports, and for proof that a fault is gone."""
        found = self._found
        looks = look_at_all(self._nvml, found.inventory, found.handles)
        if verdict.access_is_lost(looks) and self._had_access:
            logger.warning("restarting the health monitor: it lost access to all GPUs")
            self._code = ExitCode.AGAIN
            return
        self._had_access |= any(not look.denied for look in looks.values())
        self._actions = {uuid: look.action for uuid, look in looks.items()}
        recovery = self._settings.recovery
        self._become(verdict.after_looks(conditions, found.inventory, looks, recovery, now))

    def _rescan(self) -> None:
        """Look for added and removed GPUs and MIG instances."""
        failed = self._found.inventory.failed
        if inventory.bound(self._roots.sysfs) != self._bound:
            # A process initialises NVML once, and NVML then shows only the GPUs of that time.
            logger.warning("restarting the health monitor: GPUs were added or removed")
            self._code = ExitCode.AGAIN
        elif any(self._nvml.reaches(gpu.index) for gpu in failed):
            logger.info("restarting the health monitor: it can enumerate a GPU that failed before")
            self._code = ExitCode.AGAIN
        else:
            found = inventory.again(self._nvml, self._found, self._roots)
            if found.inventory != self._found.inventory:
                self._adopt(found)

    def _adopt(self, found: inventory.Found) -> None:
        """Continue with changed MIG instances."""
        if self._settings.cdi:
            # CDI specifications are written before the first thread runs, so only at a start.
            logger.info("restarting the health monitor: CDI files must follow the new MIG layout")
            self._code = ExitCode.AGAIN
            return
        logger.info("MIG instances were added or removed")
        before, places = self._places, found.places()
        self._found, self._places = found, places
        self._tell_inventory()
        self._become(verdict.after_returns(self._conditions, places.keys() - before.keys()))
        self._publish()

    def _follow(self, now: float) -> None:
        """Watch all GPUs for events except lost ones, which would fail the wait for all."""
        gone = {u for u, c in self._conditions.items() if c.state is DeviceState.LOST}
        gpus = {gpu.uuid for gpu in self._found.inventory.gpus if gpu.events}
        failed = self._watch.follow(frozenset(gpus & self._found.handles.keys() - gone), now)
        if failed and failed.lost:
            self._become(verdict.after_loss(self._conditions, failed.lost, now))
        if self._watch.unsupported:
            self._found = self._found.without_events(self._watch.unsupported)
            self._watch.unsupported = frozenset()
            self._tell_inventory()
            self._publish()

    def _on_seen(self, now: float) -> None:
        """Handle all queued events, publish the result in one message, and only then log."""
        conditions = self._conditions
        sights = self._watch.seen()
        for sight in sights:
            match sight:
                case XidEvent():
                    conditions = self._after_xid(conditions, sight, now)
                    # Check soon: for the recovery action, and for the energy before a reset.
                    self._look_at = min(self._look_at, now + SOON)
                case NvmlError():
                    lost = self._watch.on_failed(now, sight.code).lost
                    conditions = verdict.after_loss(conditions, lost, now)
                case Watching():
                    self._watch.on_well()
                case Hint():
                    self._look_at = min(self._look_at, now + SOON)
                    if sight.of_mig:
                        self._rescan_at = min(self._rescan_at, now + SOON)
        before = self._conditions
        self._store(conditions)
        # Before logging: an Xid on another GPU is missed while no thread waits for events.
        self._follow(now)
        self._log(sights)
        log_lines.changes(before, conditions)

    def _after_xid(
        self, conditions: verdict.Conditions, event: XidEvent, now: float
    ) -> verdict.Conditions:
        gpu = self._found.uuid_of(event.gpu)
        key = (gpu or "", event.xid)
        count = self._xids[key].count + 1 if key in self._xids else 1
        self._xids[key] = XidCount(*key, count, last=time.time())
        uuids = verdict.hit(self._found.inventory, (gpu, (event.gi, event.ci)))
        return verdict.after_xid(conditions, uuids, self._settings.xids, event.xid, now)

    def _become(self, conditions: verdict.Conditions) -> None:
        """Store the conditions, then log what changed."""
        before = self._conditions
        self._store(conditions)
        log_lines.changes(before, conditions)

    def _store(self, conditions: verdict.Conditions) -> None:
        """Publish the conditions if their reasons changed, and only then spend time on the disk."""
        before, self._conditions = self._conditions, conditions
        if {u: c.reasons for u, c in before.items()} != {
            u: c.reasons for u, c in conditions.items()
        }:
            self._publish()
        self._ledger.write(self._places, conditions, self._found.inventory.gpus)

    def _publish(self) -> None:
        self._sequence += 1
        found = self._found.inventory
        health = verdict.health_of(
            found, self._conditions, self._watch.unwatched, self._actions, self._booted
        )
        self._publisher.publish(
            NodeState(
                epoch=self._epoch,
                sequence=self._sequence,
                inventory=found,
                health=health,
                whole_gpus=self._settings.whole_gpus,
                xids=tuple(self._xids.values()),
                calls=self._nvml.stats(),
                persisted=self._ledger.persisted,
            )
        )

    def _log(self, sights: list[Sight]) -> None:
        for sight in sights:
            if isinstance(sight, XidEvent):
                fatal = self._settings.xids.is_fatal(sight.xid)
                log_lines.xid(sight, self._found.uuid_of(sight.gpu), fatal=fatal)
            elif isinstance(sight, NvmlError) and self._watch.is_new(sight):
                logger.warning("cannot wait for Xid events; retrying", error=str(sight))
