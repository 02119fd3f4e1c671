"""The supervisor's loop: waits for events and acts on each.

    signals ───┐                       ┌── fork, kill, reap (children.py)
    exits ─────┤                       │
    reports ───┼── wait ── on_<event> ─┼── orders to children
    requests ──┤                       │
    kubelet ───┤                       └── systemd
    deadline ──┘

Nothing here can block: the only wait has a deadline, channels never block, and no library of the
child processes is initialised. restart_policy.py decides the next state of each child.
"""

import signal
import time
from pathlib import Path

from loguru import logger
from msgspec.structs import replace

from proto.cluster import DraOffers, Labelled, Unlabelled
from proto.control import (
    Beat,
    ExitCode,
    Hung,
    Inventoried,
    LabelNode,
    Left,
    Marked,
    NodeLabels,
    NotReady,
    Ready,
    Register,
    Settled,
    Withhold,
    until_beat,
)
from proto.holdings import Holdings
from proto.messages import Inventory
from proto.probe import Probed
from proto.texts import few
from supervisor import give_up, problem_log, strangers, turns
from supervisor.children import Children
from supervisor.control_socket import ControlSocket
from supervisor.kubelet_watch import KubeletWatch
from supervisor.maintenance import Operators
from supervisor.reload import Reload
from supervisor.signals import SignalPipe
from supervisor.state import Served, ServiceSource
from supervisor.systemd import Notifier


class Supervisor:
    """Starts the child processes, keeps them running, and stops them."""

    def __init__(self, source: ServiceSource, operators: Operators) -> None:
        """Run what *source* describes; *operators* handles what operators request."""
        self._reload = Reload(source)
        self._service = self._reload.service
        self._served = Served(configuration=self._reload.state)
        self._children = Children(self._service.fork, self._service.limits, self._changes)
        self._inventory: Inventory | None = None
        self._left: tuple[str, ...] = ()  # devices of an earlier run, not looked after yet
        self._exit_code = ExitCode.DONE
        self._stop_at: float | None = None
        self._changed = False
        """Whether the exporter and systemd are to be told the state at the end of this turn."""
        self._tick_at = time.monotonic()
        self._worked = time.process_time()
        self._kubelet = KubeletWatch(self._service.kubelet_socket)
        self._signals = SignalPipe()
        self._control_socket = ControlSocket(Path(self._service.runtime_dir))
        self._operators = operators
        self._systemd = Notifier()

    def run(self) -> int:
        """Start all children, handle events until the order to stop, stop all; return the code."""
        for spec in self._service.children:
            self._children.want(spec, self._service.label_wait if spec.essential else 0.0)
        while not self._finished():
            ready = self._wait(time.monotonic())
            # Not later: what children report after this moment is read in the next turn only.
            now = time.monotonic()
            self._on_events(ready, now)
            self._on_deadlines(now)
            self._on_reload(ready, now)
            # Once, at the end: a heartbeat then proves that all turns come to their end.
            self._tell()
        for name in self._children.processes:
            logger.error("cannot kill a process, leaving it behind", child=name)
        logger.info("service stopped")
        return self._exit_code

    def _finished(self) -> bool:
        at = self._stop_at
        return at is not None and (not self._children.processes or time.monotonic() >= at)

    def _wait(self, now: float) -> set[object]:
        """Wait for the next event or deadline; return what is ready."""
        sources = [self._signals, *self._control_socket.sources(), *self._children.sources()]
        sources += [*self._kubelet.sources(now), *self._reload.sources()]
        others = (s.deadline(now) for s in (self._children, self._kubelet, self._reload))
        soonest = min([self._tick_at, *(when for when in others if when is not None)])
        return turns.wait(sources, max(0.0, soonest - now))

    def _on_events(self, ready: set[object], now: float) -> None:
        if self._signals in ready:
            self._on_signals()
        if self._kubelet.noticed(ready, now):
            self._look_at_kubelet()
        for name, process in list(self._children.processes.items()):
            # Its reports first: the last ones were sent before it ended.
            if process.channel in ready or process.sentinel in ready:
                self._on_reports(name, ended=process.sentinel in ready)
            if process.sentinel in ready:
                self._children.reap(name)
        self._children.reap_abandoned(ready)
        for client, request in self._control_socket.take(ready):
            self._served = self._operators.take(client, request, self._served, self._children)
            self._changes()
        self._operators.go_on(self._children, time.monotonic())

    def _on_signals(self) -> None:
        for number in self._signals.take():
            if number is signal.SIGHUP:
                self._reload.ask()
            else:
                logger.info("received a signal, stopping", signal=number.name)
                self._stop(ExitCode.DONE)

    def _on_reports(self, name: str, *, ended: bool) -> None:
        channel = self._children.processes[name].channel
        reports, closed = turns.receive(channel, ended=ended)
        for report in turns.newest(reports):
            self._on_report(name, report)
        if closed:
            # Either the process ends now, or its missing heartbeat is noticed.
            channel.close()

    def _on_report(self, name: str, report: object) -> None:
        match report:
            case Ready():
                self._on_ready(name)
            case Beat():
                self._children.heard(name)
            case Inventoried() | Labelled() | Left() | Unlabelled():
                self._on_found(report)
            case NotReady():
                self._on_not_ready(name, report)
            case Hung() | Settled() | NodeLabels() | DraOffers():
                self._served = self._served.after(name, report)
                self._changes()
            case Marked():
                self._operators.marked(report.error)
            case Withhold() | Holdings() | Probed():
                self._children.pass_on(report)
            case _:
                logger.error("ignored a child's order", child=name, order=type(report).__name__)

    def _on_found(self, report: Inventoried | Labelled | Left | Unlabelled) -> None:
        if isinstance(report, Labelled | Unlabelled):
            self._reload.hear(report)
        elif isinstance(report, Left):
            self._left = report.uuids
            if report.uuids:
                logger.info("found what an earlier run has left", uuids=few(report.uuids))
            self._end_leftovers()
        else:
            self._inventory = report.inventory
            self._on_inventory(report.inventory)

    def _on_inventory(self, inventory: Inventory) -> None:
        """Start children for what is new in the plan, stop those of what is gone."""
        before, plan = self._served, self._service.plan(inventory)
        problem_log.tell(before, plan, inventory.platform)
        fatal = [problem.text for problem in plan.problems if problem.fatal]
        if before.plans is None and fatal:
            self._exit_if_told_to(fatal[0])
        if self._stop_at is not None:
            return
        specs = [self._service.worker(resource) for resource in plan.resources]
        plans = dict(zip([spec.name for spec in specs], plan.resources, strict=True))
        self._served = before.after_plan(plans, plan, inventory.platform)
        self._service.log(before, self._served, specs)
        shown = self._service.advertising(inventory, plan)
        self._children.remember(LabelNode(inventory, shown, before.configuration.loaded))
        for name in (before.plans or {}).keys() - plans.keys():
            self._children.withdraw(name)
        for spec in specs:
            self._children.follow(spec)
        self._end_leftovers()

    def _end_leftovers(self) -> None:
        """End what an earlier run left of devices that are not in the plan; at the end, all."""
        known = self._served.plans is not None or self._stop_at is not None
        if known and self._service.leftover:
            self._children.dismiss(map(self._service.leftover, self._left))
            self._left = ()
        if self._stop_at is not None:
            self._children.unwant_all()

    def _on_not_ready(self, name: str, report: NotReady) -> None:
        problem_log.tell_platform(self._served, report.platform)
        if give_up.finds_nothing(self._served, report) and not self._service.fail_on_init_error:
            self._stop(ExitCode.NO_GPU)
            return
        if report.reason != self._served.not_ready.get(name):
            logger.error("process is not ready", child=name, reason=report.reason)
        self._served = self._served.after_refusal(name, report)
        # While quiesced, a late report of the monitor changes nothing: the reason is maintenance.
        if self._children.spec(name).essential and not self._served.quiesced:
            limit, now = self._service.exit_without_access, time.monotonic()
            unknown = give_up.unknown_after(report, self._children.epoch(name))
            self._served = give_up.refused(self._served, report, unknown, limit, now)
            self._children.tell(unknown)
            if self._served.plans is None:
                self._exit_if_told_to(report.reason)
            if give_up.is_due(self._served.lost, limit, now) and self._stop_at is None:
                logger.error("exiting: only a new container can use the GPUs", reason=report.reason)
                self._stop(ExitCode.FAILED)
        self._changes()

    def _on_ready(self, name: str) -> None:
        essential = self._children.spec(name).essential
        self._served = self._served.ready(name, essential=essential)
        if self._served.unknown:
            self._children.tell(self._served.unknown, only=name)
        self._children.remind(name)
        self._children.heard(name, ready=True)

    def _exit_if_told_to(self, reason: str) -> None:
        if self._service.fail_on_init_error:
            logger.error("exiting because failOnInitError is true", reason=reason)
            self._stop(ExitCode.FAILED)

    def _on_reload(self, ready: set[object], now: float) -> None:
        """Apply a configuration that was read; one that cannot be used changes nothing."""
        settled = self._children.settled()
        if self._stop_at or not (done := self._reload.go_on(ready, now, settled=settled)):
            return
        before, self._service = self._service, self._reload.service
        self._served = replace(self._served, configuration=self._reload.state)
        if self._service is not before:
            self._children.use(self._service.limits)
            for spec in self._service.children:
                self._children.renew(spec)
            if self._inventory:
                self._on_inventory(self._inventory)
        if done.label is not None:
            self._children.hasten()
        self._changes()

    def _on_deadlines(self, now: float) -> None:
        if turns.stood_still(now - self._tick_at, time.process_time() - self._worked):
            # Nor could the children work: none is killed for a heartbeat that is missing.
            self._children.excuse_all(now)
        self._children.on_deadlines(now)
        if now >= self._tick_at:
            self._tick_at, self._worked = now + until_beat(now), time.process_time()
            strangers.reap(self._children.pids() | self._reload.pids())
            self._look_at_kubelet()
            self._control_socket.tend()
            self._reload.warn(now)
            self._reload.look()
            self._changes()

    def _look_at_kubelet(self) -> None:
        if self._kubelet.is_new():
            logger.info("registering with the new kubelet", socket=self._service.kubelet_socket)
            self._children.tell(Register())

    def _stop(self, code: ExitCode) -> None:
        """Stop all children; at the second call kill them, and do not start anew."""
        if self._stop_at is not None:
            self._exit_code = give_up.at_second_stop(self._exit_code, code)
            self._children.kill_all("second signal to stop")
            return
        if code is not ExitCode.NO_GPU:
            self._systemd.stopping()
        self._operators.end()
        self._reload.end()
        self._exit_code = code
        self._stop_at = time.monotonic() + self._service.limits.end
        self._end_leftovers()

    def _changes(self) -> None:
        self._changed = True

    def _tell(self) -> None:
        """Send the state to the exporter and to systemd, if it has changed or a second is over."""
        if not self._changed:
            return
        self._changed = False
        self._children.tell(self._service.state(self._served, self._children.shown()))
        if self._stop_at is None:
            self._systemd.tell(
                self._service.status(self._served), ready=self._service.settled(self._served)
            )
