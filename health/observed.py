"""The health of the node's devices as the monitor knows it, published whenever it changes."""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Mapping

import zmq

from health import kernel_verdict, log_lines, verdict, watch, withheld
from health.condition import Look
from health.gpu_lanes import GpuLanes, Looked, Sighted
from health.grey_watch import GreyWatch
from health.hangs import Hang, Hangs
from health.inventory import places
from health.kernel_log import DriverLoaded, Event, GpuReset, LoggedXid, SXid
from health.kernel_log_file import open_log
from health.ledger import Ledger
from health.newest import Newest
from health.node import Node
from health.nvml import Hint, XidEvent
from health.pci import is_given_away
from health.watch import UNSUPPORTED, Ended, Registered, Watching
from health.watched import WatchedGpus
from health.withheld import WithheldDevices
from health.xid_reports import XidReports
from proto.bus import HealthPublisher
from proto.control import Withhold
from proto.messages import DeviceState, Inventory, NodeState
from proto.monitor import MonitorSettings

SOON = 1.0
"""Seconds from an event to the check that it causes, so that a storm of events causes one check."""

NOTHING = Inventory(driver_version="", gpus=())


class Observed:
    """Keeps the conditions of all devices, in memory and in the ledger, and publishes them."""

    def __init__(
        self,
        settings: MonitorSettings,
        ledger: Ledger,
        node: Node,
        hangs: Hangs,
        epoch: int,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._known = ledger.gpus()
        self._node = node
        self._hangs = hangs
        self.publisher = HealthPublisher(zmq.Context(), settings.paths.health_bus)
        self.kernel_log = open_log(settings.kernel_log, ledger.kernel_log)
        self.grey = GreyWatch(settings.grey)
        self._epoch = epoch
        self._sequence = 0
        # Computed once, so that published times do not change from message to message.
        self._booted = round(time.time() - time.monotonic(), 3)
        self.inventory: Inventory | None = None
        """The inventory in effect; None: nothing is known about the node, nothing is published."""
        self.conditions: verdict.Conditions = {}
        self._places: dict[str, str] = {}
        self._xids = XidReports(settings.xids)
        self._newest = Newest(settings.readiness.licence)
        self._next: verdict.Conditions = {}
        """The conditions after the batch that is being taken into account."""
        self._early: list[Sighted] = []
        """Events of GPUs that are not in the inventory yet."""
        self._withheld = WithheldDevices()
        self._published = self._withheld.reasons(0.0)
        """Why devices are withheld in the newest message; no ledger has that."""
        self._had_access = False
        self._watched = WatchedGpus(node, hangs, ledger.deaf)

    @property
    def gpus(self) -> Inventory:
        """The inventory in effect, empty at first."""
        return self.inventory or NOTHING

    def adopt(self, inventory: Inventory, looks: Mapping[str, Look], now: float) -> None:
        """Continue with a changed *inventory*; *looks* are the checks of its GPUs so far."""
        before, self._places = self._places, places(inventory)
        new = {uuid: place for uuid, place in self._places.items() if uuid not in before}
        first, self.inventory = self.inventory is None, inventory
        # The ledger keeps what is known of devices that are gone.
        conditions = {u: c for u, c in self.conditions.items() if u in self._places}
        conditions |= self._ledger.recall(new, self._node.bound)
        if first:
            log_lines.restored(conditions)
        self.look({u: look for u, look in looks.items() if u in new}, now, conditions)
        self.publish()
        early, self._early = self._early, []
        with self.batch():
            for seen in early:
                self.see(seen, now)

    def look(
        self, looks: Mapping[str, Look], now: float, conditions: verdict.Conditions | None = None
    ) -> None:
        """Take checks into account, from the present or from other *conditions*."""
        self._newest.take(looks)
        before = self.conditions if conditions is None else conditions
        recovery = self._settings.recovery
        self.become(verdict.after_looks(before, self.gpus, looks, recovery, now))

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Publish what is observed within this context in one message, and only then log."""
        before = self._next = self.conditions
        yield
        self.store(self._next)
        self._xids.log(time.monotonic())
        log_lines.changes(before, self._next)
        self._watched.log()

    def log_repeated(self, now: float) -> None:
        """Log the Xids that were repeated, and save how far the kernel log was read."""
        self._xids.log_repeated(now)
        if self.inventory and self._ledger.is_behind:
            gpus = self.inventory.gpus
            self._ledger.write(self._places, self.conditions, gpus, log_too=True)

    def end(self, now: float) -> None:
        """Log what has not been logged yet."""
        self._xids.end(now)

    def after_look(self, gpu: GpuLanes, looked: Looked, now: float) -> None:
        """Take a check of a GPU into account, within a batch."""
        slow = gpu.slow
        gpu.take(looked)
        if gpu.slow != slow:
            log_lines.pace(gpu.index, gpu.uuid, looked.seconds, slow=gpu.slow)
        looks, recovery = {gpu.uuid: looked.look}, self._settings.recovery
        self._newest.take(looks)
        self._next = verdict.after_looks(self._next, self.gpus, looks, recovery, now)

    def after_watch(self, gpu: GpuLanes, ended: Ended, now: float) -> None:
        """Take into account that the watch of a GPU has failed, within a batch."""
        gpu.registered = False
        self._watched.hear(gpu.uuid)
        if ended.error.code in UNSUPPORTED:
            gpu.poll_only()
            return
        if ended.given_away:
            gpu.look_at = now
        elif gpu.watch.error != str(ended.error):  # else logged at an earlier attempt
            log_lines.watch_failed(gpu.uuid, ended)
        gpu.watch = watch.after_end(gpu.watch, ended, now)
        if ended.lost:
            self._next = verdict.after_loss(self._next, [gpu.uuid], now)

    def see(self, seen: Sighted, now: float) -> float:
        """Take an event into account, within a batch; return when to scan for MIG instances."""
        gpu, sight = seen.gpu, seen.sight
        if gpu.uuid not in self._places:
            self._early.append(seen)  # it counts as soon as the GPU is in the inventory
            return math.inf
        match sight:
            case Registered():
                gpu.registered = True
            case Watching():
                gpu.watch = watch.after_success()
                self._watched.hear(gpu.uuid)
            case Hint():
                gpu.look_at = min(gpu.look_at, now + SOON)
            case XidEvent():
                # Check soon: for the recovery action, and for the energy before a reset.
                gpu.look_at = min(gpu.look_at, now + SOON)
                uuid = self._node.uuid_of(sight.gpu) or gpu.uuid
                if self._xids.nvml(uuid, sight, now, time.time()):
                    uuids = verdict.hit(self.gpus, (uuid, (sight.gi, sight.ci)))
                    policy = self._settings.xids
                    self._next = verdict.after_xid(self._next, uuids, policy, sight.xid, now)
        return now + SOON if isinstance(sight, Hint) and sight.of_mig else math.inf

    def listen(self, now: float) -> None:
        """Take the next events of the kernel log into account, within a batch."""
        if self.inventory is None:
            return
        for event in self.kernel_log.read(now):
            self._hear(event, now)
        self._ledger.kernel_log = self.kernel_log.newest

    def _hear(self, event: Event, now: float) -> None:
        policy, hit = self._settings.xids, kernel_verdict.gpus(self.gpus, event)
        match event:
            case LoggedXid() if hit:
                report = self._xids.kernel(hit[0].uuid, event, now, time.time())
                self._next = kernel_verdict.after_xid(self._next, self.gpus, report, policy, now)
            case _:
                if isinstance(event, SXid):
                    self._xids.switch(event)
                elif hit and isinstance(event, GpuReset | DriverLoaded):
                    log_lines.reset(event)
                    self.grey.forget(gpu.uuid for gpu in hit)
                self._next = kernel_verdict.after(self._next, self.gpus, event, policy, now)
        for uuid in (gpu.uuid for gpu in hit):
            if lanes := self._node.holding(uuid):
                lanes.look_at = min(lanes.look_at, now + SOON)

    def mark(self, uuids: Iterable[str], now: float) -> None:
        """Clear the faults of devices for an operator; what the newest check shows stays."""
        looks = self._node.looks() | self._node.absent_looks(self.gpus)
        uuids = tuple(uuids)
        of_device = {u: k for u, k in looks.items() if verdict.belongs(self.gpus, u, uuids)}
        self.grey.forget(uuids)
        self.look(of_device, now, verdict.after_marks(self.conditions, uuids, now))

    def withhold(self, order: Withhold, now: float) -> None:
        """Hold these devices back from *now* on, and no others, for as long as that is valid."""
        self._withheld = WithheldDevices(order, now)
        if self._withheld.reasons(now) != self._published:
            self.publish()

    def access(self) -> verdict.Access:
        """Return what the newest checks of all GPUs say about the access to them."""
        hanging = self._hangs.by_index()
        gpus = [gpu for gpu in self._node.gpus if gpu.index not in hanging]
        looks = {str(gpu.index): look for gpu in gpus if (look := gpu.newest)}
        # A GPU that hangs refuses nothing, so what a single other GPU says may be its own fault.
        alone = bool(hanging) and len(gpus) == 1
        if alone or len(looks) < len(gpus) or not any(gpu.gpu for gpu in gpus):
            return verdict.Access.UNDISPUTED
        had_access = self._had_access
        self._had_access |= bool(looks) and not verdict.access_is_lost(looks)
        return verdict.access_after(looks, self._known, had_access=had_access)

    def lost(self) -> frozenset[str]:
        """Return the devices that the driver cannot reach."""
        found = self.conditions.items()
        return frozenset(
            u for u, c in found if c.state is DeviceState.LOST or is_given_away(c.ailments)
        )

    def become(self, conditions: verdict.Conditions) -> None:
        """Store the conditions, then log what changed."""
        before = self.conditions
        self.store(conditions)
        log_lines.changes(before, conditions)

    def store(self, conditions: verdict.Conditions) -> None:
        """Publish the conditions if their reasons changed, and only then spend time on the disk."""
        before, self.conditions = self.conditions, conditions
        if self.inventory is None:
            return
        if {u: c.reasons for u, c in before.items()} != {
            u: c.reasons for u, c in conditions.items()
        }:
            self.publish()
        self._ledger.deaf = dict(self._watched.deaf)
        self._ledger.write(self._places, conditions, self.inventory.gpus)

    def note(self, begun: Iterable[Hang], ended: Iterable[Hang]) -> None:
        """Publish which calls hang now, and keep what a new monitor would not know at once."""
        self._watched.note(begun, ended)
        self.publish()
        self.store(self.conditions)

    def publish(self) -> None:
        """Publish the state of the node, if an inventory is known."""
        if self.inventory is None:
            return
        self._sequence += 1
        now = time.monotonic()
        unwatched = self._watched.reasons(self.inventory.gpus, self.conditions)
        health = verdict.health_of(
            self.inventory, self.conditions, unwatched, self._newest.actions, self._booted
        )
        health = verdict.with_licences(health, self._newest.licensed)
        before, self._published = self._published, self._withheld.reasons(now)
        unnamed, ailing = self._node.unnamed(self.inventory.gpus), self.grey.unhealthy(self.gpus)
        health = verdict.overlaid(health, unnamed, self._published, ailing)
        limit = self._settings.hang_after
        times = (gpu.look_time(now, limit) for gpu in self._node.gpus)
        self.publisher.publish(
            NodeState(
                epoch=self._epoch,
                sequence=self._sequence,
                inventory=self.inventory,
                health=health,
                whole_gpus=self._settings.whole_gpus,
                xids=self._xids.counts(),
                calls=self._node.stats(),
                hanging=self._hangs.shown(self.gpus, now),
                looks=tuple(time for time in times if time),
                persisted=self._ledger.persisted,
                kernel_log_lost=self.kernel_log.lost if self.kernel_log.readable else None,
                grey=self.grey.failures(self.inventory),
                sxids=self._xids.sxids(),
            )
        )
        withheld.log_changes(before, self._published, [device.uuid for device in health])
