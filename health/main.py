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
from health.condition import Condition
from health.ledger import Ledger
from health.looks import look
from health.nvml import Code, Nvml, NvmlError, XidEvent, key_of
from health.trace import Trace
from health.watch import Watch
from health.watcher import Sight, Watching
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
from proto.messages import DeviceState, Inventory, NodeState, XidCount

ADVICE: dict[int | None, str] = {
    Code.LIBRARY_NOT_FOUND: "install the NVIDIA driver, or mount it at --driver-root-ctr-path",
    Code.DRIVER_NOT_LOADED: "load the kernel module nvidia",
    Code.VERSION_MISMATCH: "the driver was upgraded under its kernel module; reboot",
    Code.NO_PERMISSION: "let this process open /dev/nvidia*",
}


def main(settings: MonitorSettings, channel: Channel, epoch: int) -> int:
    """Live: find what is on the node, then watch it; NOT_READY where the driver is not there."""
    try:
        binding = importlib.import_module(settings.binding).load(settings.binding_argument)
        nvml = Nvml(binding, Trace(settings.paths.trace))
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
        self._settings = settings
        self._ledger = Ledger(Path(settings.state_folder))
        self._places = _places(found.inventory)
        self._conditions: verdict.Conditions = self._ledger.read(self._places)
        nvml.names = {key_of(handle): uuid for uuid, handle in found.handles.items()}
        self._watch = Watch(nvml, found.handles)
        self._publisher = HealthPublisher(zmq.Context(), settings.paths.health_bus)
        self._channel = channel
        self._epoch = epoch
        self._sequence = 0
        self._xids: Counter[tuple[str, int]] = Counter()
        self._look_at = 0.0
        self._publish_at = 0.0
        self._stopping = False

    def run(self) -> int:
        """Report what was found, then watch until told to stop."""
        for failed in self._found.inventory.failed:
            logger.error("cannot enumerate a GPU", index=failed.index, error=failed.error)
        for uuid, condition in self._conditions.items():
            _log_change(uuid, Condition(), condition)
        without_links = msgspec.structs.replace(self._found.inventory, links=())
        self._channel.send(Inventoried(inventory=without_links))
        self._channel.send(Ready())
        while not self._stopping:
            self._on_deadlines(time.monotonic())
            self._wait(time.monotonic())
        self._watch.end()
        return ExitCode.DONE

    def _wait(self, now: float) -> None:
        poller = zmq.Poller()
        poller.register(self._publisher.socket, zmq.POLLIN)
        poller.register(self._channel.fileno(), zmq.POLLIN)
        if (seen := self._watch.fileno()) is not None:
            poller.register(seen, zmq.POLLIN)
        deadlines = [self._publish_at, self._look_at, self._watch.again_at or self._publish_at]
        ready = dict(poller.poll(math.ceil(max(0.0, min(deadlines) - now) * 1000)))
        if seen in ready:
            self._on_seen(time.monotonic())
        if self._publisher.socket in ready and self._publisher.joined():
            self._publish()
        if self._channel.fileno() in ready:
            self._on_order()

    def _on_deadlines(self, now: float) -> None:
        if now >= self._look_at:
            self._look_at = now + self._settings.poll_interval
            self._look(now)
        self._follow(now)
        if self._watch.find_overdue(self._settings.hang_after, now):
            self._publish()
            logger.error("the driver hangs", call="nvmlEventSetWait")
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

    def _look(self, now: float) -> None:
        """Look at every GPU for what no event tells, and for proof that a fault is gone."""
        looks = {
            gpu.uuid: look(self._nvml, self._found.handles[gpu.uuid], gpu.nvlinks)
            for gpu in self._found.inventory.gpus
        }
        recovery, found = self._settings.recovery, self._found.inventory
        self._become(verdict.after_looks(self._conditions, found, looks, recovery, now))

    def _follow(self, now: float) -> None:
        """Wait for the events of the GPUs; a lost one would fail the wait for all."""
        gone = {u for u, c in self._conditions.items() if c.state is DeviceState.LOST}
        gpus = frozenset(g.uuid for g in self._found.inventory.gpus if g.events) - gone
        failed = self._watch.follow(gpus, now)
        if failed and failed.lost:
            self._become(verdict.after_loss(self._conditions, failed.lost, now))

    def _on_seen(self, now: float) -> None:
        """Take in all that was seen, tell it in one message, and only then log it."""
        conditions = self._conditions
        sights = self._watch.seen()
        for sight in sights:
            match sight:
                case XidEvent():
                    conditions = self._after_xid(conditions, sight, now)
                case NvmlError():
                    lost = self._watch.on_failed(now).lost
                    conditions = verdict.after_loss(conditions, lost, now)
                case Watching():
                    self._watch.on_well()
        self._become(conditions)
        # At once: an Xid of another GPU that comes while nobody waits is never seen.
        self._follow(now)
        self._log(sights)

    def _after_xid(
        self, conditions: verdict.Conditions, event: XidEvent, now: float
    ) -> verdict.Conditions:
        gpu = self._found.uuid_of(event.gpu)
        self._xids[gpu or "", event.xid] += 1
        uuids = verdict.hit(self._found.inventory, (gpu, (event.gi, event.ci)))
        return verdict.after_xid(conditions, uuids, self._settings.xids, event.xid, now)

    def _become(self, conditions: verdict.Conditions) -> None:
        """Store the conditions, tell the others, and only then spend time on disk and log."""
        before, self._conditions = self._conditions, conditions
        if {u: c.reasons for u, c in before.items()} != {
            u: c.reasons for u, c in conditions.items()
        }:
            self._publish()
        self._ledger.write(self._places, conditions)
        for uuid in before.keys() | conditions.keys():
            _log_change(uuid, before.get(uuid, Condition()), conditions.get(uuid, Condition()))

    def _publish(self) -> None:
        self._sequence += 1
        found = self._found.inventory
        self._publisher.publish(
            NodeState(
                epoch=self._epoch,
                sequence=self._sequence,
                inventory=found,
                health=verdict.health_of(found, self._conditions, self._watch.unwatched),
                xids=tuple(XidCount(uuid, xid, n) for (uuid, xid), n in self._xids.items()),
            )
        )

    def _log(self, sights: list[Sight]) -> None:
        for sight in sights:
            if isinstance(sight, XidEvent):
                self._log_xid(sight)
            elif isinstance(sight, NvmlError):
                logger.warning("cannot wait for events", error=str(sight))

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
            fatal=self._settings.xids.is_fatal(event.xid),
        )


def _places(found: Inventory) -> dict[str, str]:
    """Return where each GPU and instance is, by UUID."""
    gpus = {gpu.uuid: gpu.pci_bus_id for gpu in found.gpus}
    return gpus | {i.uuid: gpu.pci_bus_id for gpu in found.gpus for i in gpu.instances}


def _log_change(uuid: str, before: Condition, after: Condition) -> None:
    if (before.state, before.reasons) != (after.state, after.reasons):
        reasons = sorted(map(str, after.reasons))
        logger.warning("health", uuid=uuid, state=after.state, reasons=reasons)
