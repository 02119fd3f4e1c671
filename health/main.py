"""The monitor process: look at the node once, then wait for faults and publish the node's state.

It talks to the supervisor over its channel (inventory and beats up, stop down) and publishes
NodeStates on the health bus: at once on a change or when somebody joins, and every second.
"""

import importlib
import math
import time
from collections import Counter
from pathlib import Path

import msgspec
import zmq
from loguru import logger

from health import cdi, inventory, verdict, xids
from health.nvml import Code, Nvml, NvmlError, XidEvent
from health.watcher import Sight, Watcher, Watching
from proto.bus import HealthPublisher
from proto.channel import Channel, ClosedError
from proto.control import (
    BEAT_EVERY,
    Beat,
    CdiSettings,
    ExitCode,
    Inventoried,
    MonitorSettings,
    NotReady,
    Ready,
    Stop,
)
from proto.messages import Health, NodeState, Reason, ReasonKind, XidCount

WATCH_AGAIN = (0.1, 1.0, 5.0, 30.0)
"""Seconds until the next attempt to watch, by the number of failures in a row; the last repeats."""

BLIND = Reason(ReasonKind.UNWATCHED)
"""No event of any GPU can be waited for; gone as soon as a wait goes well."""

LOST = Reason(ReasonKind.GPU_LOST)

ADVICE: dict[int | None, str] = {
    Code.LIBRARY_NOT_FOUND: "install the NVIDIA driver, or mount it at --driver-root-ctr-path",
    Code.DRIVER_NOT_LOADED: "load the kernel module nvidia",
    Code.VERSION_MISMATCH: "the driver was upgraded under its kernel module; reboot",
    Code.NO_PERMISSION: "let this process open /dev/nvidia*",
}


def main(settings: MonitorSettings, channel: Channel, epoch: int) -> int:
    """Live: find what is on the node, then watch it; NOT_READY where the driver is not there."""
    try:
        nvml = Nvml(importlib.import_module(settings.binding).load(settings.binding_argument))
        nvml.start()
        found = inventory.take(nvml, _roots(settings))
    except (NvmlError, OSError) as error:
        advice = ADVICE.get(getattr(error, "code", None))
        channel.send(NotReady(reason=f"{error}; {advice}" if advice else str(error)))
        return ExitCode.NOT_READY
    if settings.cdi:
        # Before anybody hears of a GPU, so that no pod is given a name that stands for nothing
        # yet; and before a thread runs, as the toolkit's processes are forked.
        found = found.with_cdi(_write_cdi(settings.cdi))
    return Monitor(nvml, found, settings, channel, epoch).run()


def _write_cdi(settings: CdiSettings) -> tuple[str, ...]:
    """Have the specifications written; return the kinds of which there is one, old or new."""
    cdi.write_all(settings)
    return tuple(spec.kind for spec in cdi.specs(settings) if spec.path.exists())


def _roots(settings: MonitorSettings) -> inventory.Roots:
    return inventory.Roots(*map(Path, (settings.sysfs, settings.procfs, settings.dev_root)))


class Monitor:
    """The node's health, from the first inventory to the order to stop."""

    def __init__(
        self,
        nvml: Nvml,
        found: inventory.Found,
        settings: MonitorSettings,
        channel: Channel,
        epoch: int,
    ) -> None:
        self._nvml = nvml
        self._found = found
        self._policy = settings.xids
        self._publisher = HealthPublisher(zmq.Context(), settings.paths.health_bus)
        self._channel = channel
        self._epoch = epoch
        self._sequence = 0
        self._faults: verdict.Faults = {}
        self._xids: Counter[tuple[str, int]] = Counter()
        self._watcher: Watcher | None = None
        self._watch_failures = 0
        self._watch_at: float | None = 0.0
        self._publish_at = 0.0
        self._stopping = False

    def run(self) -> int:
        """Report what was found, then watch until told to stop."""
        for failed in self._found.inventory.failed:
            logger.error("cannot enumerate a GPU", index=failed.index, error=failed.error)
        without_links = msgspec.structs.replace(self._found.inventory, links=())
        self._channel.send(Inventoried(inventory=without_links))
        self._channel.send(Ready())
        while not self._stopping:
            self._on_deadlines(time.monotonic())
            self._wait(time.monotonic())
        if self._watcher:
            self._watcher.end()
        return ExitCode.DONE

    def _wait(self, now: float) -> None:
        poller = zmq.Poller()
        poller.register(self._publisher.socket, zmq.POLLIN)
        poller.register(self._channel.fileno(), zmq.POLLIN)
        if self._watcher:
            poller.register(self._watcher.fileno(), zmq.POLLIN)
        deadline = min(self._publish_at, self._watch_at or self._publish_at)
        ready = dict(poller.poll(math.ceil(max(0.0, deadline - now) * 1000)))
        if self._watcher and self._watcher.fileno() in ready:
            self._on_seen(self._watcher)
        if self._publisher.socket in ready and self._publisher.joined():
            self._publish()
        if self._channel.fileno() in ready:
            self._on_order()

    def _on_deadlines(self, now: float) -> None:
        if self._watch_at is not None and now >= self._watch_at:
            self._watch(now)
        if now >= self._publish_at:
            self._publish_at = now + BEAT_EVERY
            self._channel.send(Beat())
            self._publish()

    def _on_order(self) -> None:
        try:
            while order := self._channel.receive():
                self._stopping |= isinstance(order, Stop)
        except ClosedError:
            self._stopping = True

    def _on_seen(self, watcher: Watcher) -> None:
        """Take in all that was seen, tell it in one message, and only then log it."""
        before = self._faults
        sights = watcher.seen()
        for sight in sights:
            match sight:
                case XidEvent():
                    self._on_xid(sight)
                case NvmlError():
                    self._on_watch_failed(sight, time.monotonic())
                case Watching():
                    self._watch_failures = 0
                    self._faults = verdict.clear(self._faults, BLIND)
        self._publish()
        self._log(sights, before)

    def _on_xid(self, event: XidEvent) -> None:
        gpu = self._found.uuid_of(event.gpu)
        self._xids[gpu or "", event.xid] += 1
        place = (gpu, (event.gi, event.ci))
        self._faults = verdict.after_xid(
            self._faults, self._found.inventory, self._policy, place, event.xid
        )

    def _on_watch_failed(self, error: NvmlError, now: float) -> None:
        """Find out who is lost; if nobody, and it happens again, nobody is watched."""
        self._watch_failures += 1
        handles = self._found.handles
        lost = [uuid for uuid in self._watched() if self._nvml.lost(handles[uuid])]
        self._faults = verdict.add(self._faults, lost, LOST)
        if not lost and self._watch_failures > 1:
            self._faults = verdict.add(self._faults, handles, BLIND)
        if self._watcher:
            self._watcher.end()
            self._watcher = None
        if lost:
            # At once: an Xid of another GPU that comes while nobody waits is never seen.
            self._watch(now)
        else:
            self._watch_at = now + WATCH_AGAIN[min(self._watch_failures, len(WATCH_AGAIN)) - 1]
        logger.warning("cannot wait for events", error=str(error), lost=lost)

    def _watched(self) -> list[str]:
        """Return the GPUs to wait for: one that is lost fails the wait for all."""
        gpus = self._found.inventory.gpus
        return [g.uuid for g in gpus if g.events and LOST not in self._faults.get(g.uuid, ())]

    def _watch(self, now: float) -> None:
        """Start waiting on the events of every GPU that can be watched."""
        self._watch_at = None
        watched = self._watched()
        if not watched:
            return
        try:
            events = self._nvml.event_set()
        except NvmlError as error:
            self._on_watch_failed(error, now)
            return
        for uuid in watched:
            self._register(uuid, events)
        self._watcher = Watcher(self._nvml, events)
        self._watcher.start()
        logger.info("watching", gpus=len(watched))

    def _register(self, uuid: str, events: object) -> None:
        try:
            self._nvml.register(self._found.handles[uuid], events)
        except NvmlError as error:
            unregistered = Reason(ReasonKind.UNWATCHED, f"NVML error {error.code}")
            reason = LOST if error.code == Code.GPU_IS_LOST else unregistered
            self._faults = verdict.add(self._faults, [uuid], reason)
            logger.warning("cannot watch a GPU", uuid=uuid, error=str(error))

    def _publish(self) -> None:
        self._sequence += 1
        self._publisher.publish(
            NodeState(
                epoch=self._epoch,
                sequence=self._sequence,
                inventory=self._found.inventory,
                health=verdict.health_of(self._found.inventory, self._faults),
                xids=tuple(XidCount(uuid, xid, n) for (uuid, xid), n in self._xids.items()),
            )
        )

    def _log(self, sights: list[Sight], before: verdict.Faults) -> None:
        for event in sights:
            if isinstance(event, XidEvent):
                self._log_xid(event)
        for uuid in before.keys() | self._faults.keys():
            reasons = self._faults.get(uuid, frozenset())
            if reasons != before.get(uuid, frozenset()):
                health = Health.UNHEALTHY if reasons else Health.HEALTHY
                logger.warning(
                    "health", uuid=uuid, health=health, reasons=sorted(map(str, reasons))
                )

    def _log_xid(self, event: XidEvent) -> None:
        known = xids.lookup(event.xid)
        logger.warning(
            "Xid",
            uuid=self._found.uuid_of(event.gpu) or "unknown",
            xid=event.xid,
            gi=event.gi,
            ci=event.ci,
            name=known.name,
            action=known.action,
            fatal=self._policy.is_fatal(event.xid),
        )
