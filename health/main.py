"""The monitor process: find the GPUs, then watch them for faults and publish the node's state.

    lanes ────────┐                     ┌── jobs for the lanes (node.py)
    kernel log ───┤                     │
    orders ───────┼── wait ── decide ───┼── NodeStates on the bus
    subscribers ──┤      (verdict.py)   ├── reports to the supervisor
    deadlines ────┘                     └── the ledger

The loop calls no driver: each GPU has threads of its own for that, so a GPU that hangs or is slow
holds up no other. NodeStates are published on a change, for a new subscriber, and every second.
"""

import math
import time
from pathlib import Path

import msgspec
import zmq
from loguru import logger

from health import access, log_lines, pci, verdict
from health.cdi_lane import CdiWritten
from health.condition import Look
from health.gpu_lanes import Looked, Sighted
from health.hangs import Hang, Hangs
from health.lane import Done, Mailbox
from health.ledger import Ledger
from health.node import Node
from health.nvml import Code
from health.observed import Observed
from health.opening import Refused
from health.orders import Orders
from health.usage import Sampled
from health.usage_bus import UsageBus
from health.watch import Ended
from proto.channel import Channel
from proto.control import (
    Beat,
    ExitCode,
    Hung,
    Inventoried,
    NotReady,
    Ready,
    until_beat,
)
from proto.messages import Inventory
from proto.monitor import MonitorSettings

RETRY_PARTIAL = 600.0
"""Seconds until a new monitor tries a GPU that this one could enumerate only in part."""


def main(settings: MonitorSettings, channel: Channel, epoch: int) -> int:
    """Run the monitor and return its exit code; NOT_READY if the driver cannot be used."""
    return Monitor(settings, channel, epoch).run()


class Monitor:
    """Watches the node until the order to stop, or until there is a reason for a new process."""

    def __init__(self, settings: MonitorSettings, channel: Channel, epoch: int) -> None:
        self._settings = settings
        self._channel = channel
        ledger = Ledger(Path(settings.state_folder))
        self._procfs = Path(settings.procfs)
        self._mailbox = Mailbox()
        known = ledger.gpus()
        self._had_gpus = bool(known)
        self._node = Node(settings, known, self._mailbox)
        self._hangs = Hangs()
        self._observed = Observed(settings, ledger, self._node, self._hangs, epoch)
        self._usage = UsageBus(self._node, self._observed.publisher, settings.usage_interval, epoch)
        self._orders = Orders(channel, self._node, self._hangs, self._observed)
        self._began = time.monotonic()
        self._rescan_at = self._began + settings.rescan_interval
        self._absent_at = math.inf
        self._beat_at = 0.0
        self._end_at = math.inf
        """When to end if the driver is still not open."""
        self._ready = False
        self._changed = False
        """Whether a lane found something that may change the inventory."""
        self._code: ExitCode | None = None
        """The exit code, as soon as the monitor has to end."""

    def run(self) -> int:
        """Report the inventory, then watch the node until there is a reason to end."""
        while self._code is None:
            self._on_deadlines(time.monotonic())
            self._wait(time.monotonic())
        self._observed.end(time.monotonic())
        return self._code

    def _wait(self, now: float) -> None:
        poller = zmq.Poller()
        poller.register(self._observed.publisher.socket, zmq.POLLIN)
        poller.register(self._orders.fileno(), zmq.POLLIN)
        poller.register(self._mailbox.fileno(), zmq.POLLIN)
        # Before there is an inventory, what the log tells waits there.
        kernel_log = self._observed.kernel_log
        log, log_at = kernel_log.wait() if self._observed.inventory else (None, math.inf)
        if log is not None:
            poller.register(log, zmq.POLLIN)
        jobs = self._node.deadline(self._observed.lost())
        hangs = self._hangs.deadline(self._node.lanes(), now, self._settings.hang_after)
        # Before the start is done, nothing else is due: a deadline that passed would spin the loop.
        later = min(self._rescan_at, self._absent_at) if self._ready else math.inf
        soonest = min(self._beat_at, later, jobs, hangs, log_at)
        ready = dict(poller.poll(math.ceil(max(0.0, soonest - now) * 1000)))
        if self._mailbox.fileno() in ready or log in ready or time.monotonic() >= log_at:
            self._on_reports(time.monotonic())
        if self._observed.publisher.socket in ready and self._observed.publisher.joined():
            self._observed.publish()
            self._usage.publish(time.monotonic())
        if self._orders.fileno() in ready and self._orders.take():
            self._code = ExitCode.DONE

    def _on_deadlines(self, now: float) -> None:
        self._find_hangs(now)
        if self._ready:
            self._go_on(now)
        elif self._node.ready(now):
            self._begin(now)
        self._node.step(now, self._observed.lost())
        if now >= self._beat_at:
            self._beat_at = now + until_beat(now)
            self._beat(now)

    def _beat(self, now: float) -> None:
        if not self._observed.publisher.reachable():
            # Cleaners of /run delete it; a process that connects from now on would get nothing.
            logger.warning("restarting the health monitor: its socket file was deleted")
            self._code = ExitCode.AGAIN
        hung = self._node.driver.late(now, self._settings.hang_after)
        if hung and now >= self._end_at and not self._node.opened:
            self._refuse(access.hang(hung))
        self._channel.send(Beat())
        self._observed.publish()
        self._usage.publish_new(now)
        self._observed.log_repeated(now)

    def _refuse(self, report: NotReady) -> None:
        self._channel.send(report)
        self._code = ExitCode.NOT_READY

    def _begin(self, now: float) -> None:
        """Report the first inventory, unless this process has no access to any GPU."""
        if report := access.no_access(self._node.refused(), self._procfs):
            self._refuse(report)
            return
        self._adopt(self._inventory(), now)
        self._node.begin(now)
        self._channel.send(Ready())
        self._ready = True

    def _inventory(self) -> Inventory:
        return self._node.inventory(self._hangs.by_index())

    def _known(self) -> Inventory:
        """Return the inventory in effect, or before the first, the GPUs of the ledger."""
        return self._observed.inventory or self._inventory()

    def _adopt(self, fresh: Inventory, now: float) -> None:
        """Continue with a new inventory, and tell the supervisor what changed for the workers."""
        before = self._observed.inventory
        log_lines.inventory(before, fresh)
        looks = (
            self._node.looks()
            | self._node.absent_looks(fresh)
            | self._hangs.looks(fresh, self._node.gpus)
        )
        self._observed.adopt(fresh, looks, now)
        self._absent_at = now
        told = msgspec.structs.replace(fresh, links=())
        if before is None or told != msgspec.structs.replace(before, links=()):
            self._channel.send(Inventoried(inventory=told))

    def _go_on(self, now: float) -> None:
        """Do what is due once the first inventory was reported."""
        if now >= self._rescan_at:
            self._rescan_at = now + self._settings.rescan_interval
            self._rescan(now)
        if self._changed:
            self._changed = False
            fresh = self._inventory()
            if fresh != self._observed.inventory and self._node.is_written():
                self._adopt(fresh, now)
        if now >= self._absent_at:
            self._absent_at = now + self._settings.poll_interval
            absent = self._node.absent_looks(self._observed.gpus)
            self._observed.look(absent | self._hung(), now)
        self._orders.go_on(now)

    def _rescan(self, now: float) -> None:
        """Look for added and removed GPUs and MIG instances."""
        if self._node.is_changed_on_the_bus():
            logger.warning("restarting the health monitor: GPUs were added or removed")
            self._code = ExitCode.AGAIN
            return  # what this driver does not show yet stays on the list until then
        if now - self._began > RETRY_PARTIAL and any(g.partial for g in self._node.gpus):
            logger.warning("restarting the health monitor: a GPU is enumerated only in part")
            self._code = ExitCode.AGAIN
        self._node.rescan()
        self._changed = True  # as files of the kernel may have, such as device nodes
        on_bus = pci.on_bus(Path(self._settings.sysfs))
        self._observed.grey.compare(on_bus, self._observed.gpus, now)

    def _find_hangs(self, now: float) -> None:
        begun, ended = self._hangs.search(self._node.lanes(), now, self._settings.hang_after)
        for hang in begun:
            self._on_hang(hang, now)
        for hang in ended:
            hang.log_end(self._known(), now)
            if hang.gpu:
                hang.gpu.look_at = now
        if begun or ended:
            self._changed = True
            self._observed.note(begun, ended)

    def _on_hang(self, hang: Hang, now: float) -> None:
        hang.log(self._known())
        call = hang.running.call
        opening = hang.lane is self._node.driver and not self._node.opened
        self._channel.send(Hung(call, everything=opening))
        if opening:
            self._end_at = now + self._settings.hang_after
            # The GPUs of the ledger keep their places, so that their capacity stays visible.
            if (known := self._inventory()).gpus:
                self._adopt(known, now)
                self._observed.look({gpu.uuid: Look(hung=call) for gpu in known.gpus}, now)
        else:
            self._observed.look(self._hung(), now)

    def _hung(self) -> dict[str, Look]:
        return self._hangs.looks(self._observed.gpus, self._node.gpus)

    def _on_reports(self, now: float) -> None:
        """Take all reports and the kernel log, publish the result at once, and only then log."""
        with self._observed.batch():
            for report in self._mailbox.take():
                if isinstance(report, Done):
                    self._on_done(report, now)
                elif isinstance(report, Sighted):
                    self._rescan_at = min(self._rescan_at, self._observed.see(report, now))
            self._observed.listen(now)
        match self._observed.access():
            case verdict.Access.LOST_HERE:
                logger.warning("restarting the health monitor: it lost access to all GPUs")
                self._code = ExitCode.AGAIN
            case verdict.Access.LOST_BEFORE:
                self._refuse(
                    access.refusal("every check is refused", Code.NO_PERMISSION, self._procfs)
                )
            case verdict.Access.UNDISPUTED:
                pass

    def _on_done(self, done: Done, now: float) -> None:
        done.lane.busy = False
        log_lines.odd(done)
        gpu = self._node.gpu_of(done.lane)
        match done.result:
            case BaseException():
                raise done.result  # this process is told to end
            case Refused():
                self._refuse(access.refused(done.result, self._settings, had_gpus=self._had_gpus))
            case Looked() if gpu:
                self._observed.after_look(gpu, done.result, now)
            case Ended() if gpu:
                self._observed.after_watch(gpu, done.result, now)
            case Sampled(grey=sample) if gpu:
                self._node.take(done, gpu, now)
                if sample and self._observed.grey.take(gpu.uuid, sample):
                    self._observed.publish()
            case CdiWritten():
                self._node.take(done, gpu, now)
                self._observed.publish()  # it may have named devices, or lost them
            case _:
                self._node.take(done, gpu, now)
        self._changed |= not isinstance(done.result, Looked | Sampled)
