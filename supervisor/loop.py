"""The supervisor's loop: it knows the set of children, and what happens to them.

    signals ──┐                       ┌── fork, kill, reap (child.py)
    exits ────┤                       │
    reports ──┼── wait ── on_<event> ─┼── orders to children
    kubelet ──┤                       │
    deadline ─┘                       └── _become: the only place that stores a child's state

Nothing here can block: the one wait has a deadline, channels never block, and no library of the
children's is initialised. What becomes of a child is decided in policy.py.
"""

import signal
import time
from collections.abc import Mapping
from dataclasses import replace

from loguru import logger
from multiprocess import connection

from proto.channel import ClosedError
from proto.control import (
    Beat,
    Configure,
    ExitCode,
    Inventoried,
    MonitorHangs,
    NotReady,
    Order,
    Ready,
    Register,
    ResourcePlan,
    ServiceState,
    Stop,
)
from proto.messages import Inventory
from supervisor import policy
from supervisor.child import Process, Spec, describe
from supervisor.policy import Child, State
from supervisor.served import Served, Service
from supervisor.signals import SignalPipe
from supervisor.watch import KubeletWatch

TICK = 1.0
"""Seconds between two looks at what gives no event, and between two reports to the exporter."""

STALL = 5.0
"""Seconds by which a tick is late when this process, or the whole machine, stood still."""

STOP_WITHIN = 4.5
"""Seconds after which the service ends, though a child may not be dead yet."""


class Supervisor:
    """Starts the children, keeps them running, and stops them."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._specs: dict[str, Spec] = {}
        self._children: dict[str, Child] = {}
        self._processes: dict[str, Process] = {}
        self._served = Served()
        self._exit_code = ExitCode.DONE
        self._stop_at: float | None = None
        self._tick_at = time.monotonic()
        self._kubelet = KubeletWatch(service.kubelet_socket)
        self._signals = SignalPipe()

    def run(self) -> int:
        """Live: start all, serve events until told to stop, stop all."""
        for spec in self._service.children:
            self._want(spec)
        while not self._finished():
            self._on_deadlines(time.monotonic())
            self._on_events(self._wait(time.monotonic()))
        for name in self._processes:
            logger.error("left behind, it cannot be killed", child=name)
        logger.info("stopped")
        return self._exit_code

    def _finished(self) -> bool:
        if self._stop_at is None:
            return False
        return not self._processes or time.monotonic() >= self._stop_at

    def _wait(self, now: float) -> set[object]:
        """Return what is ready; the one place that waits."""
        sources: list[object] = [self._signals]
        if (inotify := self._kubelet.fileno()) is not None:
            sources.append(inotify)
        for process in self._processes.values():
            sources.append(process.sentinel)
            if not process.channel.closed:
                sources.append(process.channel)
        limits = self._service.limits
        deadlines = [policy.deadline(child, limits) for child in self._children.values()]
        soonest = min([d for d in deadlines if d is not None] + [self._tick_at])
        return set(connection.wait(sources, max(0.0, soonest - now)))

    def _on_events(self, ready: set[object]) -> None:
        if self._signals in ready:
            self._on_signals()
        if self._kubelet.fileno() in ready:
            self._look_at_kubelet()
        for name, process in list(self._processes.items()):
            # Its last words come before its end.
            if process.channel in ready or process.sentinel in ready:
                self._on_reports(name, process)
            if process.sentinel in ready:
                self._on_exited(name, process.reap())

    def _on_signals(self) -> None:
        for number in self._signals.take():
            if number is signal.SIGHUP:
                logger.info("signal without effect", signal=number.name)
            else:
                logger.info("asked to stop", signal=number.name)
                self._stop(ExitCode.DONE)

    def _on_reports(self, name: str, process: Process) -> None:
        try:
            while report := process.channel.receive():
                now = time.monotonic()
                match report:
                    case Ready():
                        self._on_ready(name)
                    case Beat():
                        self._become(name, policy.heard(self._children[name], now))
                    case Inventoried():
                        self._on_inventory(report.inventory)
                    case NotReady():
                        self._on_not_ready(name, report.reason)
                    case _:
                        logger.error("an order came up", child=name, order=type(report).__name__)
        except ClosedError:
            # Its end follows at once, or else its silence is noticed.
            process.channel.close()

    def _on_inventory(self, inventory: Inventory) -> None:
        """Start a worker for each new resource, stop those that are gone, tell the others."""
        before, plan = self._served, self._service.plan(inventory)
        for problem in plan.problems:
            if problem not in before.problems:
                level = "ERROR" if problem.fatal else "WARNING"
                logger.log(level, "cannot serve all", problem=problem.kind, reason=problem.text)
        if before.plans is None and any(problem.fatal for problem in plan.problems):
            self._give_up_if_told_to("go on without what cannot be served")
        if self._stop_at is not None:
            return
        specs = [(self._service.worker(one), one) for one in plan.resources]
        plans = {spec.name: one for spec, one in specs}
        self._served = replace(before, plans=plans, problems=plan.problems)
        self._follow(specs, before.plans or {})

    def _follow(
        self, specs: list[tuple[Spec, ResourcePlan]], before: Mapping[str, ResourcePlan]
    ) -> None:
        if not specs:
            logger.warning("nothing to advertise")
        for name in before.keys() - {spec.name for spec, _ in specs}:
            logger.info("resource gone", resource=before[name].resource)
            self._unwant(name, Stop(withdraw=True))
        for spec, plan in specs:
            self._want(spec)
            if before.get(spec.name, plan) != plan:
                logger.info("resource changed", resource=plan.resource, devices=len(plan.devices))
                self._tell(Configure(plan=plan), only=spec.name)

    def _on_not_ready(self, name: str, reason: str) -> None:
        not_ready = self._served.not_ready
        if reason != not_ready.get(name):
            logger.error("not ready, retrying", child=name, reason=reason)
        self._served = replace(self._served, not_ready={**not_ready, name: reason})
        self._tell(self._state())
        if self._served.plans is None and self._specs[name].essential:
            self._give_up_if_told_to("be waited for")

    def _on_ready(self, name: str) -> None:
        not_ready = {n: why for n, why in self._served.not_ready.items() if n != name}
        self._served = replace(self._served, not_ready=not_ready)
        self._become(name, policy.heard(self._children[name], time.monotonic(), ready=True))

    def _give_up_if_told_to(self, otherwise: str) -> None:
        if self._service.fail_on_init_error:
            logger.error(f"giving up; with --fail-on-init-error=false it would {otherwise}")
            self._stop(ExitCode.FAILED)

    def _on_exited(self, name: str, code: int) -> None:
        del self._processes[name]
        child = policy.exited(self._children[name], time.monotonic(), self._service.limits)
        if child.wanted:
            # The reason of NOT_READY was told already, and will be again only when it changes.
            level = "DEBUG" if code == ExitCode.NOT_READY else "WARNING"
            again = policy.backoff(child.failures, self._service.limits)
            logger.log(level, "child ended", child=name, how=describe(code), again_in=again)
        self._become(name, child)

    def _on_deadlines(self, now: float) -> None:
        if now - self._tick_at > STALL:
            # We stood still, and so perhaps did the whole machine: nobody is to blame for silence.
            for name, child in self._children.items():
                self._become(name, policy.heard(child, now))
        for name, child in list(self._children.items()):
            due = policy.deadline(child, self._service.limits)
            if due is not None and now >= due:
                self._on_deadline(name, child, now)
        if now >= self._tick_at:
            self._tick_at = now + TICK
            self._look_at_kubelet()
            self._tell(self._state())

    def _on_deadline(self, name: str, child: Child, now: float) -> None:
        match child.state:
            case State.BACKOFF:
                self._start(name, now)
            case State.STARTING | State.RUNNING:
                self._on_silent(name)
            case State.STOPPING:
                self._kill(name, "does not stop")
            case State.KILLED | State.DOWN:
                raise AssertionError(f"cannot happen: {child.state} has no deadline")

    def _on_silent(self, name: str) -> None:
        """Kill a child that hangs; if it hangs in the driver, that is told before all else."""
        if self._specs[name].essential and (call := self._service.running_call()):
            logger.error("the driver hangs", child=name, call=call)
            self._tell(MonitorHangs(call=call))
        self._kill(name, "gives no sign of life")

    def _look_at_kubelet(self) -> None:
        if self._kubelet.is_new():
            logger.info("the kubelet's socket is new", socket=self._service.kubelet_socket)
            self._tell(Register())

    def _want(self, spec: Spec) -> None:
        """Have a child of *spec*; its next start uses it."""
        self._specs[spec.name] = spec
        now = time.monotonic()
        child = self._children.get(spec.name)
        self._become(spec.name, policy.wanted(child, now) if child else policy.new(now))

    def _unwant(self, name: str, order: Stop) -> None:
        child = self._children[name]
        if child.state in policy.ATTENTIVE:
            self._processes[name].channel.send(order)
        self._become(name, policy.unwanted(child, time.monotonic()))

    def _start(self, name: str, now: float) -> None:
        child = policy.started(self._children[name], now)
        try:
            self._processes[name] = self._service.fork(self._specs[name], child.starts)
        except OSError as error:
            logger.error("cannot start", child=name, error=str(error))
            child = policy.exited(child, now, self._service.limits)
        self._become(name, child)

    def _kill(self, name: str, why: str) -> None:
        child = self._children[name]
        if child.state is State.KILLED:
            return
        if child.state is not State.STOPPING:
            logger.error("killing a child", child=name, pid=self._processes[name].pid, why=why)
        self._processes[name].kill()
        self._become(name, policy.killed(child, time.monotonic(), self._service.limits))

    def _become(self, name: str, child: Child) -> None:
        before = self._children.get(name)
        self._children[name] = child
        if before is None or before.state is not child.state:
            logger.debug("child", child=name, state=child.state.value, starts=child.starts)
            self._tell(self._state())

    def _stop(self, code: ExitCode) -> None:
        """Stop everything; asked a second time, at once."""
        if self._stop_at is not None:
            for name in list(self._processes):
                self._kill(name, "asked twice to stop")
            return
        self._exit_code = code
        self._stop_at = time.monotonic() + STOP_WITHIN
        for name in self._children:
            self._unwant(name, Stop())

    def _tell(self, order: Order, only: str | None = None) -> None:
        """Send *order* to the children that take it."""
        for name, process in self._processes.items():
            if only in (None, name) and type(order) in self._specs[name].takes:
                process.channel.send(order)

    def _state(self) -> ServiceState:
        return self._served.state(self._children)
