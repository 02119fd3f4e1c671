"""The world of a chaos run with MPS: both service trees, the daemons' stand-in, and clients.

What is true of the daemons is read from the stand-in and from /proc, with no code of the service.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from simulator.kubelet import Kubelet
from tests.chaos.mps_node import PLAIN, PROFILE, MpsNode
from tests.chaos.pulse import Pulse
from tests.conftest import PR_SET_CHILD_SUBREAPER, title
from tests.conftest import children as children_of
from tests.fakes.mps_trees import MPS, Host, mps_host
from tests.fakes.service import Service, kubelet

if TYPE_CHECKING:
    from tests.hardware.programs import Program

GPUS = 2

STALE = 5.0
"""Seconds of health.staleAfter, shortened to make the run shorter."""

PATIENCE = STALE - 1.5
"""Seconds for which the tree can be away until its devices may be Unhealthy: it speaks once a
second, on a busy machine a little more seldom, so the last time may have been before its end."""

TOLD = 0.2
"""Seconds until a device without a daemon is Unhealthy, as docs/reliability.md promises."""

SPARE = 1.0
"""Seconds that a busy machine may need beyond each time limit."""

LOOK = 0.01
"""Seconds between two looks at the kubelet's list and at the daemons."""

READS_LIMITS = "get_default_active_thread_percentage"
"""A command with which the limits of a daemon are read back."""

FORGIVEN = 90.0
"""Seconds after which a failure no longer delays the next start (promised: 60)."""


class MpsViolationError(Exception):
    """An invariant does not hold; the message says which."""


class MpsWorld(MpsNode):
    """Both trees and what they have to keep; faults change it."""

    def __init__(self, host: Host, node: Kubelet, noise: float) -> None:
        super().__init__(host, node)
        self.noise = noise
        self.plugin: Service
        self.tree: Service
        self.clients: dict[str, Program] = {}
        self.victims: frozenset[str] = frozenset()
        """Devices of MPS that may be Unhealthy now."""
        self.renewed: frozenset[str] = frozenset()
        """Devices whose daemon may be another one now."""
        self.kept: dict[str, int] = {}
        """The PID of each device's daemon."""
        self.violations: list[str] = []
        self.times: dict[str, list[float]] = {}
        self._born: dict[str, float] = {}
        """Until when a device stays Healthy in spite of the fault, on the monotonic clock."""
        self._missing: dict[str, float] = {}
        """Since when a device has no daemon."""
        self._unread: dict[str, int] = {}
        """How often limits of a device were read before its daemon ended, until read again."""
        self._dark: set[str] = set()
        """Devices with a new daemon that were listed as Unhealthy, or not at all."""
        self._failed: dict[str, list[float]] = {}
        self._strangers = children_of(os.getpid())
        self._stacks = {name: contextlib.AsyncExitStack() for name in ("plugin", "tree")}
        self._pulse = Pulse()
        self._excused = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, name: str) -> None:
        """Start one of the trees; files of an earlier run are still there."""
        started = self.host.plugin() if name == "plugin" else self.host.tree()
        running = await self._stacks[name].enter_async_context(started)
        setattr(self, name, running)

    async def end(self, name: str, number: signal.Signals) -> int:
        """End one of the trees by a signal; return its exit code when all its processes ended."""
        running: Service = getattr(self, name)
        pids = running.pids().values()
        if name == "tree":
            self.bear(PATIENCE, *self.host.uuids)
        running.process.send_signal(number)
        code = await running.ended()
        await self.within(2.0, lambda: not any(map(title, pids)), f"end of the {name}'s processes")
        await self._stacks[name].aclose()
        return code

    async def within(self, promise: float, holds: Callable[[], object], what: str) -> float:
        """Wait until *holds* returns true; return the seconds. Fail after the promised time."""
        began = time.monotonic()
        limit = promise * self.noise + SPARE
        while not holds():
            self.check()
            if time.monotonic() - began > limit:
                raise MpsViolationError(f"no {what} within {limit:.1f} s; {self.shown()}")
            await asyncio.sleep(LOOK)
        return time.monotonic() - began

    def bear(self, seconds: float, *uuids: str) -> None:
        """Note that these devices stay Healthy for so long; then they may be Unhealthy."""
        self._born.update(dict.fromkeys(uuids, time.monotonic() + seconds))

    def recovered(self) -> None:
        """Note that no device may be Unhealthy, nor have another daemon, from now on."""
        self.victims = self.renewed = frozenset()
        self._born.clear()

    def check(self) -> None:
        """Fail if a look has found something wrong, or if a tree has crashed or ended."""
        for running in (self.plugin, self.tree):
            self.violations += [
                f"crash in the log: {entry}"
                for entry in running.entries
                if "Traceback" in str(entry) or "crashed" in str(entry)
            ]
        if self.violations:
            raise MpsViolationError(f"{'; '.join(self.violations[:3])}; {self.shown()}")

    def note(self, what: str, seconds: float) -> None:
        """Note a measured time."""
        self.times.setdefault(what, []).append(seconds)

    def fails(self, uuid: str) -> float:
        """Note that a device's daemon fails; return how long its next start is put off."""
        now = time.monotonic()
        recent = [when for when in self._failed.get(uuid, []) if now - when < FORGIVEN]
        self._failed[uuid] = [*recent, now]
        return min(0.1 * 2.0 ** len(recent), 30.0)

    async def employ(self, *options: str, only: str = "") -> None:
        """Give a client to each device that has none, or another client to one device."""
        for place, uuid in enumerate(self.host.uuids):
            working = self.clients.get(uuid)
            idle = working is None or working.process.poll() is not None
            if (only == uuid) if only else idle:
                await self.dismiss(uuid)
                client = self.host.mps.client(self.host.pipe(place), "--seconds=3600", *options)
                self.clients[uuid] = client
                said = await asyncio.to_thread(client.line)
                if not str(said).startswith("busy"):
                    raise MpsViolationError(f"a client of {uuid} does not work: {said}")

    async def dismiss(self, uuid: str) -> None:
        """End the client of a device, if it has one."""
        if client := self.clients.pop(uuid, None):
            await asyncio.to_thread(client.end)

    def working(self, uuid: str) -> bool:
        """Return whether the client of a device works on."""
        return uuid in self.clients and self.clients[uuid].process.poll() is None

    async def _watch(self) -> None:
        """Look at everything, again and again, until cancelled."""
        while True:
            self._look(time.monotonic())
            await asyncio.sleep(LOOK)

    def excuse(self) -> None:
        """Excuse what is listed for a while: the machine stood still, so all seemed silent."""
        self._excused = time.monotonic() + STALE

    def _look(self, now: float) -> None:
        if self._pulse.late:
            self.excuse()
        found = self.daemons()
        for uuid in self.host.uuids:
            self._judge_daemon(uuid, found.get(uuid, []), now)
            late = now > self._born.get(uuid, now)
            forgiven = uuid in self.victims or now < self._excused or late
            if False in self.replicas(uuid) and not forgiven:
                self.violations.append(f"{uuid} is listed as Unhealthy although it is well")
        known = self.kubelet.resources.get(PLAIN)
        if known and known.connected and len(known.healthy()) != len(known.devices):
            self.violations.append(f"{PLAIN} is listed as Unhealthy although it is well")

    def _judge_daemon(self, uuid: str, pids: list[int], now: float) -> None:
        healthy = True in self.replicas(uuid)
        if not pids:
            since = self._missing.setdefault(uuid, now)
            self._unread.setdefault(uuid, self._readings(uuid))
            late = now - since > TOLD * self.noise + SPARE and now > self._excused
            if healthy and late:
                self.violations.append(f"{uuid} is listed as Healthy without a daemon")
        else:
            self._missing.pop(uuid, None)
            before = self.kept.get(uuid, pids[0])
            if pids != [before] and uuid not in self.renewed:
                self.violations.append(f"{uuid} has other daemons: {before} became {pids}")
            self.kept[uuid] = pids[0]
        self._judge_limits(uuid, healthy=healthy)

    def _judge_limits(self, uuid: str, *, healthy: bool) -> None:
        """Fail if a device is Healthy again before the limits of its new daemon were read."""
        if uuid not in self._unread:
            return
        if not healthy:
            self._dark.add(uuid)
        elif uuid in self._dark:
            self._dark.remove(uuid)
            if self._readings(uuid) <= self._unread.pop(uuid):
                self.violations.append(f"{uuid} is listed as Healthy, but its limits were not read")

    def _readings(self, uuid: str) -> int:
        return self.host.mps.commands(uuid).count(READS_LIMITS)

    async def run(self) -> None:
        """Start everything, and wait until every device is Healthy."""
        self.victims = frozenset(self.host.uuids)
        await asyncio.gather(self.start("plugin"), self.start("tree"))
        beat = self._pulse.beat(self.excuse)
        self._tasks = [asyncio.create_task(task) for task in (self._watch(), beat)]
        await self.within(5.0, self.settled, "device that is Healthy after the start")
        await self.employ()
        self.victims = frozenset()

    async def finish(self) -> None:
        """Stop both trees as users do; fail if anything is left."""
        for uuid in self.host.uuids:
            await self.dismiss(uuid)
        self.victims = self.renewed = frozenset(self.host.uuids)
        codes = [await self.end(name, signal.SIGTERM) for name in ("tree", "plugin")]
        left = [title(pid) for pid in children_of(os.getpid()) - self._strangers]
        found = {
            "exit codes": codes if any(codes) else [],
            "daemons": self.host.running(),
            "compute modes": list(filter(None, self.host.modes())),
            "processes": list(filter(None, left)),
            "sockets": [path.name for path in self.host.folder.rglob("*.ipc")],
        }
        if any(found.values()):
            raise MpsViolationError(f"left behind at the end: {found}")

    async def close(self) -> None:
        """End everything, whatever state it is in."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self.clients.values():
            await asyncio.to_thread(client.end, kill=True)
        for stack in self._stacks.values():
            await stack.aclose()


@contextlib.asynccontextmanager
async def mps_world(noise: float) -> AsyncIterator[MpsWorld]:
    """Run a world whose time limits are multiplied by *noise*."""
    # Become the parent of orphans, to notice processes that a killed tree left behind.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with mps_host(GPUS, mig=(PROFILE,)) as host:
        host.configure(MPS, staleAfter=f"{STALE:g}s")
        async with kubelet(host.folder) as node:
            made = MpsWorld(host, node, noise)
            try:
                await made.run()
                yield made
            finally:
                await made.close()
