"""The child processes: the specification and state of each, and the running processes.

Only `_become` stores a child's state; restart_policy.py decides the next state.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from loguru import logger

from proto.channel import Sent
from proto.control import ExitCode, Order, ProcessState, ServiceState, Stop, Withhold
from proto.holdings import Holdings
from proto.probe import Probed
from supervisor import restart_policy
from supervisor.child import Process, Spec, describe
from supervisor.restart_policy import Child, Limits, State

ABANDONED = 2
"""How many processes that cannot be killed are replaced: each may hold the driver's locks."""


class Children:
    """Starts child processes, restarts and stops them; never waits for one."""

    def __init__(
        self, fork: Callable[[Spec, int], Process], limits: Limits, on_change: Callable[[], None]
    ) -> None:
        self.use(limits)
        self.processes: dict[str, Process] = {}
        self._fork = fork
        self._on_change = on_change
        self._specs: dict[str, Spec] = {}
        self._children: dict[str, Child] = {}
        self._abandoned: list[Process] = []
        self._remembered: dict[type[Order], Order] = {}

    def use(self, limits: Limits) -> None:
        """Use these *limits* from now on."""
        self._limits, self._urgent = limits, limits.for_urgent()

    def sources(self) -> Iterator[object]:
        """Yield what the loop has to wait for: the end and the reports of each process."""
        for process in (*self.processes.values(), *self._abandoned):
            yield process.sentinel
            if not process.channel.closed:
                yield process.channel

    def deadline(self, now: float) -> float | None:
        """Return the earliest deadline of all children, also before *now*; None: there is none."""
        del now
        deadlines = (self._deadline(name) for name in self._children)
        return min((when for when in deadlines if when is not None), default=None)

    def on_deadlines(self, now: float) -> None:
        """Do what is due for the children whose deadline has passed."""
        for name, deadline in {each: self._deadline(each) for each in self._children}.items():
            if deadline is not None and now >= deadline:
                self._on_deadline(name)

    def _on_deadline(self, name: str) -> None:
        match self._children[name].state:
            case State.BACKOFF:
                self.start(name)
            case State.STARTING | State.RUNNING:
                self.kill(name, "no heartbeat")
            case State.STOPPING:
                self.kill(name, "did not stop in time")
            case State.KILLED:
                self.abandon(name)
            case State.DOWN:
                raise AssertionError("cannot happen: a child that is down has no deadline")

    def _deadline(self, name: str) -> float | None:
        return restart_policy.deadline(self._children[name], self._limits_of(name))

    def _limits_of(self, name: str) -> Limits:
        return self._urgent if self._specs[name].essential else self._limits

    def spec(self, name: str) -> Spec:
        """Return the specification of the child *name*."""
        return self._specs[name]

    def state(self, name: str) -> State:
        """Return the state of the child *name*."""
        return self._children[name].state

    def epoch(self, name: str) -> int:
        """Return the epoch of the child *name*: how often it was started."""
        return self._children[name].starts

    def gone(self, name: str) -> bool:
        """Return whether no process of the child *name* is left, not even an abandoned one."""
        spec = self._specs[name]
        left = spec.essential and self._abandoned
        return self._children[name].state is State.DOWN and not left

    def heard(self, name: str, *, ready: bool = False) -> None:
        """Note a heartbeat of the child *name*; with *ready*, that it does its work."""
        self._become(
            name, restart_policy.heard(self._children[name], time.monotonic(), ready=ready)
        )

    def excuse_all(self, now: float) -> None:
        """Begin all heartbeat timeouts again, because the machine stood still."""
        for name, child in self._children.items():
            self._become(name, restart_policy.excused(child, now))

    def settled(self) -> bool:
        """Return whether each child is ready, has ended, or failed."""
        return all(restart_policy.settled(child) for child in self._children.values())

    def want(self, spec: Spec, delay: float = 0.0) -> None:
        """Keep a child of *spec* running; its next start uses *spec*, its first waits *delay* s."""
        self._specs[spec.name] = spec
        now = time.monotonic()
        child = self._children.get(spec.name)
        self._become(
            spec.name,
            restart_policy.wanted(child, now) if child else restart_policy.new(now + delay),
        )

    def hasten(self) -> None:
        """Start the children at once whose first start is still delayed."""
        for name, child in list(self._children.items()):
            if child.state is State.BACKOFF and not child.starts:
                self._become(name, restart_policy.new(time.monotonic()))

    def unwant(self, name: str, order: Stop) -> None:
        """Send *order* to the child *name*, and do not restart it."""
        child = self._children[name]
        if child.state in restart_policy.ATTENTIVE:
            self.processes[name].channel.send(order)
        self._become(name, restart_policy.unwanted(child, time.monotonic()))

    def withdraw(self, name: str) -> None:
        """Order the child *name* to withdraw what it serves, and to end; do not restart it then."""
        spec, child = self._specs[name], self._children[name]
        if not spec.lingers:
            self.unwant(name, Stop(withdraw=True))
        elif not child.leaving:
            if child.state in restart_policy.ATTENTIVE:
                self.processes[name].channel.send(Stop(withdraw=True))
            self._become(name, restart_policy.leaving(child, time.monotonic()))

    def dismiss(self, specs: Iterable[Spec]) -> None:
        """Start the children of *specs* that never were here, only to withdraw what they find."""
        for spec in specs:
            if spec.name not in self._children:
                self.want(spec)
                self.withdraw(spec.name)

    def renew(self, spec: Spec) -> None:
        """Restart the child of that name with *spec* if its settings changed."""
        if self._specs[spec.name].settings != spec.settings and self._children[spec.name].wanted:
            self.unwant(spec.name, Stop())
            self.want(spec)
        self._specs[spec.name] = spec

    def follow(self, spec: Spec) -> None:
        """Keep a child of *spec* running; send the change to the process that runs."""
        before, child = self._specs.get(spec.name), self._children.get(spec.name)
        if before is not None and before.fixed != spec.fixed:
            self.unwant(spec.name, Stop())
        changed = before is not None and before.change != spec.change
        self.want(spec)
        if spec.change and (changed or (child and child.leaving)):
            self.tell(spec.change, only=spec.name)

    def unwant_all(self) -> None:
        """Order all children to stop; one that lingers is started, to end what it has left."""
        for name, child in list(self._children.items()):
            if self._specs[name].lingers and child.state is State.BACKOFF:
                self.start(name)
            self.unwant(name, Stop())

    def kill_all(self, why: str) -> None:
        """Kill all processes that still run."""
        for name in list(self.processes):
            self.kill(name, why)

    def start(self, name: str) -> None:
        """Fork the child *name*; if the fork fails, retry later."""
        now = time.monotonic()
        child = restart_policy.started(self._children[name], now)
        try:
            self.processes[name] = self._fork(self._specs[name], child.starts)
        except OSError as error:
            logger.error("cannot fork a process, retrying", child=name, error=str(error))
            child = restart_policy.exited(child, now, self._limits)
        self._become(name, child)
        if child.leaving and name in self.processes:
            self.processes[name].channel.send(Stop(withdraw=True))

    def kill(self, name: str, why: str) -> None:
        """Send SIGKILL to the child *name*, once."""
        child = self._children[name]
        if child.state is State.KILLED:
            return
        if child.state is not State.STOPPING:
            logger.error("killing a process", child=name, pid=self.processes[name].pid, why=why)
        self.processes[name].kill()
        self._become(name, restart_policy.killed(child, time.monotonic(), self._limits))

    def abandon(self, name: str) -> None:
        """Leave a process alone that SIGKILL does not end, because the driver blocks it.

        An essential child is replaced, but at most ABANDONED times; any other waits for the end.
        """
        child, now = self._children[name], time.monotonic()
        if not self._specs[name].essential or len(self._abandoned) >= ABANDONED:
            self._become(name, restart_policy.endured(child, now))
            return
        process = self.processes.pop(name)
        logger.error("cannot kill a process, replacing it", child=name, pid=process.pid)
        self._abandoned.append(process)
        self._become(name, restart_policy.exited(child, now, self._limits))

    def reap(self, name: str) -> None:
        """Reap the child *name*, which has ended, and schedule its restart if it is wanted."""
        code = self.processes.pop(name).reap()
        ordered = code == ExitCode.DONE and self._children[name].state is State.STOPPING
        done = code == ExitCode.DONE and self._children[name].leaving
        well = code == ExitCode.AGAIN or done
        child = restart_policy.exited(
            self._children[name], time.monotonic(), self._limits, well=well
        )
        if child.wanted:
            # The reason of NOT_READY is in the log already, and is logged again when it changes.
            told = ordered or code in {ExitCode.NOT_READY, ExitCode.AGAIN}
            level = "DEBUG" if told else "WARNING"
            again = restart_policy.backoff(child.failures, self._limits_of(name))
            how = describe(code)
            logger.log(level, "process ended, restarting it", child=name, how=how, again_in=again)
        self._become(name, child)

    def reap_abandoned(self, ready: set[object]) -> None:
        """Reap abandoned processes that have ended now."""
        for process in [process for process in self._abandoned if process.sentinel in ready]:
            logger.info("a process that could not be killed has ended", pid=process.pid)
            process.reap()
            self._abandoned.remove(process)

    def tell(self, order: Order, only: str | None = None) -> None:
        """Send *order* to all children that take it, or to the child *only*.

        A child that would miss it is killed: its successor gets all that counts at its start.
        """
        for name, process in self.processes.items():
            if only in (None, name) and type(order) in self._specs[name].takes:
                sent = process.channel.send(order)
                # These are sent again soon; any other order would be lost for good.
                passing = sent is Sent.FULL and isinstance(
                    order, ServiceState | Withhold | Holdings
                )
                if sent in {Sent.FULL, Sent.UNFIT} and not passing:
                    self.kill(name, f"cannot send it the order {type(order).__name__}")

    def pass_on(self, report: Withhold | Holdings | Probed) -> None:
        """Send a child's *report* to those that take it; what they withhold, nobody remembers."""
        if isinstance(report, Holdings | Probed):
            self.remember(report)
        else:
            self.tell(report)

    def remember(self, order: Order) -> None:
        """Send *order* to all children that take it, and later to their successors."""
        self._remembered[type(order)] = order
        self.tell(order)

    def remind(self, name: str) -> None:
        """Send the child *name* the newest of each kind of order that was remembered."""
        for order in self._remembered.values():
            self.tell(order, only=name)

    def pids(self) -> frozenset[int]:
        """Return the PIDs of all processes that are not reaped yet."""
        return frozenset(process.pid for process in (*self.processes.values(), *self._abandoned))

    def shown(self) -> tuple[ProcessState, ...]:
        """Return the states of the children, for the exporter."""
        return tuple(
            ProcessState(
                name,
                child.state.value,
                max(0, child.starts - 1),
                self.processes[name].pid if name in self.processes else 0,
            )
            for name, child in self._children.items()
        )

    def _become(self, name: str, child: Child) -> None:
        before = self._children.get(name)
        self._children[name] = child
        if before is None or before.state is not child.state:
            state, starts = child.state.value, child.starts
            logger.debug("process changed state", child=name, state=state, starts=starts)
            self._on_change()
