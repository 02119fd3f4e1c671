"""The set of children: what each is, where it is in its life, and the processes behind them.

`_become` is the only place that stores a child's state; what that state becomes is decided in
policy.py.
"""

import time
from collections.abc import Callable, Iterator

from loguru import logger

from proto.control import ExitCode, Order, ProcessState, Stop
from supervisor import policy
from supervisor.child import Process, Spec, describe
from supervisor.policy import Child, Limits, State

ABANDONED = 2
"""Processes that cannot be killed and are left alone, at most: each may hold the driver's locks."""


class Children:
    """Starts children, keeps them running, and ends them; it never waits for any."""

    def __init__(
        self, fork: Callable[[Spec, int], Process], limits: Limits, on_change: Callable[[], None]
    ) -> None:
        self.limits = limits
        self.processes: dict[str, Process] = {}
        self._fork = fork
        self._on_change = on_change
        self._specs: dict[str, Spec] = {}
        self._children: dict[str, Child] = {}
        self._abandoned: list[Process] = []

    def sources(self) -> Iterator[object]:
        """Yield what to wait on: the end of each process, and what it says."""
        for process in (*self.processes.values(), *self._abandoned):
            yield process.sentinel
            if not process.channel.closed:
                yield process.channel

    def deadline(self) -> float | None:
        """Return when a child needs attention though nothing happens; None if never."""
        found = (self._deadline(name) for name in self._children)
        return min((one for one in found if one is not None), default=None)

    def due(self, now: float) -> list[tuple[str, State]]:
        """Return the children whose deadline is over, with their states."""
        found = {name: self._deadline(name) for name in self._children}
        return [
            (name, self._children[name].state)
            for name, deadline in found.items()
            if deadline is not None and now >= deadline
        ]

    def _deadline(self, name: str) -> float | None:
        return policy.deadline(self._children[name], self._limits_of(name))

    def _limits_of(self, name: str) -> Limits:
        return self.limits.for_urgent() if self._specs[name].essential else self.limits

    def spec(self, name: str) -> Spec:
        """Return what the child called *name* is."""
        return self._specs[name]

    def state(self, name: str) -> State:
        """Return where the child called *name* is in its life."""
        return self._children[name].state

    def known(self, name: str) -> bool:
        """Return whether there is, or was, a child of that name."""
        return name in self._specs

    def gone(self, name: str) -> bool:
        """Return whether no process of that child is left, abandoned ones included."""
        spec = self._specs[name]
        left = spec.essential and self._abandoned
        return self._children[name].state is State.DOWN and not left

    def heard(self, name: str, *, ready: bool = False) -> None:
        """Take note of a sign of life, which *ready* makes the one that it does its work."""
        self._become(name, policy.heard(self._children[name], time.monotonic(), ready=ready))

    def heard_all(self) -> None:
        """Blame nobody for silence: it was we who stood still."""
        for name in self._children:
            self.heard(name)

    def want(self, spec: Spec, delay: float = 0.0) -> None:
        """Have a child of *spec*; its next start uses it, and its first one has time."""
        self._specs[spec.name] = spec
        now = time.monotonic()
        child = self._children.get(spec.name)
        self._become(spec.name, policy.wanted(child, now) if child else policy.new(now + delay))

    def hasten(self) -> None:
        """Start those at once whose first start was to wait."""
        for name, child in list(self._children.items()):
            if child.state is State.BACKOFF and not child.starts:
                self._become(name, policy.new(time.monotonic()))

    def unwant(self, name: str, order: Stop) -> None:
        """Ask a child to end, for good."""
        child = self._children[name]
        if child.state in policy.ATTENTIVE:
            self.processes[name].channel.send(order)
        self._become(name, policy.unwanted(child, time.monotonic()))

    def renew(self, spec: Spec) -> None:
        """Have a child of *spec* instead of the one that there is, if they differ."""
        if self._specs[spec.name].settings != spec.settings and self._children[spec.name].wanted:
            self.unwant(spec.name, Stop())
            self.want(spec)
        self._specs[spec.name] = spec

    def unwant_all(self) -> None:
        """Ask all to end."""
        for name in self._children:
            self.unwant(name, Stop())

    def kill_all(self, why: str) -> None:
        """Kill what is left."""
        for name in list(self.processes):
            self.kill(name, why)

    def start(self, name: str) -> None:
        """Fork a child; where the system does not let us it is tried again later."""
        now = time.monotonic()
        child = policy.started(self._children[name], now)
        try:
            self.processes[name] = self._fork(self._specs[name], child.starts)
        except OSError as error:
            logger.error("cannot fork a process, retrying", child=name, error=str(error))
            child = policy.exited(child, now, self.limits)
        self._become(name, child)

    def kill(self, name: str, why: str) -> None:
        """Send SIGKILL to a child, once."""
        child = self._children[name]
        if child.state is State.KILLED:
            return
        if child.state is not State.STOPPING:
            logger.error("killing a process", child=name, pid=self.processes[name].pid, why=why)
        self.processes[name].kill()
        self._become(name, policy.killed(child, time.monotonic(), self.limits))

    def abandon(self, name: str) -> None:
        """Leave a process alone that does not die of SIGKILL, as one that the driver holds up.

        Only an essential child gets a successor meanwhile, and only so often.
        """
        child, now = self._children[name], time.monotonic()
        if not self._specs[name].essential or len(self._abandoned) >= ABANDONED:
            self._become(name, policy.endured(child, now))
            return
        process = self.processes.pop(name)
        logger.error("cannot kill a process, replacing it", child=name, pid=process.pid)
        self._abandoned.append(process)
        self._become(name, policy.exited(child, now, self.limits))

    def reap(self, name: str) -> None:
        """Collect a child that has ended, and have it started again if it is wanted."""
        code = self.processes.pop(name).reap()
        well = code == ExitCode.AGAIN
        child = policy.exited(self._children[name], time.monotonic(), self.limits, well=well)
        if child.wanted:
            # The reason of NOT_READY was told already, and will be again only when it changes.
            level = "DEBUG" if code in {ExitCode.NOT_READY, ExitCode.AGAIN} else "WARNING"
            again = policy.backoff(child.failures, self._limits_of(name))
            how = describe(code)
            logger.log(level, "process ended, restarting it", child=name, how=how, again_in=again)
        self._become(name, child)

    def reap_abandoned(self, ready: set[object]) -> None:
        """Collect those that were abandoned and have ended after all."""
        for process in [one for one in self._abandoned if one.sentinel in ready]:
            logger.info("process ended that could not be killed before", pid=process.pid)
            process.reap()
            self._abandoned.remove(process)

    def tell(self, order: Order, only: str | None = None) -> None:
        """Send *order* to the children that take it."""
        for name, process in self.processes.items():
            if only in (None, name) and type(order) in self._specs[name].takes:
                process.channel.send(order)

    def shown(self) -> tuple[ProcessState, ...]:
        """Return the children as the exporter shows them."""
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
