"""The world of a chaos run: a simulated node, its kubelet, its pods, and the service under test."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

from simulator.kubelet import AdmissionError
from simulator.node import Live
from tests.chaos import truth
from tests.chaos.calls import unless_hung_up
from tests.chaos.troubled import TroubledKubelet
from tests.conftest import PR_SET_CHILD_SUBREAPER
from tests.fakes.service import Service, service

QUIET = 0.5
POLL = 0.25
RESCAN = 0.5
STALE = 3.0
HANG = 4.0
"""Seconds; the service's own periods, shortened so that a run is not spent waiting for them."""

SMALL, LARGE = ("1g.10gb",) * 3, ("3g.40gb",) * 2
LAYOUTS = {6: (SMALL, ("1g.10gb",), ("1g.10gb",) * 7), 7: (LARGE, ("3g.40gb",))}
"""The MIG layouts that a GPU changes between, by its place; the first is that of the start."""

FORGIVEN = 90.0
"""Seconds after which an end of a child surely counts no more; a minute of health is promised."""

NODE: dict[str, object] = {"gpus": [{}] * 6 + [{"mig": SMALL}, {"mig": LARGE}]}
RESOURCES = (truth.GPU, "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb")
WORKERS = tuple(f"worker {resource}" for resource in RESOURCES)
CHILDREN = ("monitor", "exporter", *WORKERS)
REPLICAS = 2


def configuration(replicas: int) -> str:
    """Return the configuration file in which each whole GPU has so many replicas."""
    sharing = f"{{timeSlicing: {{resources: [{{name: gpu, replicas: {replicas}}}]}}}}"
    return f"""version: v1
flags: {{migStrategy: mixed}}
sharing: {sharing if replicas > 1 else "{}"}
health:
  staleAfter: {STALE}s
  hangAfter: {HANG}s
  pollInterval: {POLL}s
  rescanInterval: {RESCAN}s
  recovery: {{quietPeriod: {QUIET}s, probes: 2}}
"""


class World:
    """Everything there is; faults change it, invariants look at it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.kubelet = TroubledKubelet(folder / "kubelet", seed)
        self.running: Service
        self.replicas = REPLICAS
        self.quiesced = False
        self.blocked: set[str] = set()
        """Resources that cannot be served while a fault lasts."""
        self.absent: set[str] = set()
        """Children that are not there while a fault lasts."""
        self.relapses: dict[str, int] = {}
        """Faults of each GPU since the node's boot."""
        self.not_before: dict[str, float] = {}
        """When a GPU may be Healthy again, at the soonest."""
        self.broken_shown: set[str] = set()
        """Broken GPUs that the kubelet knows to be broken."""
        self.violations: list[str] = []
        self.deaths: dict[str, list[float]] = {}
        """When each child was made to end, since the supervisor's start."""
        self.began = self.deadline = 0.0
        """When the newest fault happened, and until when all has to be well."""
        self.alone = True
        """Whether there is one fault at a time."""
        self.admitted = 0
        self.seen = 0
        """Entries of the log that were looked at."""
        self._random = Random(seed)  # noqa: S311 - a choice of pods, not a secret
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def live(self) -> Live:
        """The simulated node as it is now."""
        return self.running.node.read()

    def view(self) -> truth.View:
        """Return what the kubelet would hand out; a resource that lists nothing counts as none."""
        return {
            resource.name: {name: health == "Healthy" for name, health in resource.devices.items()}
            for resource in self.kubelet.resources.values()
            if resource.devices and resource.connected
        }

    def expected(self) -> truth.View:
        """Return what the kubelet should see."""
        found = truth.expected(self.live, truth.Service(self.replicas, self.quiesced))
        return {name: one for name, one in found.items() if name not in self.blocked}

    def hands_out(self, uuid: str) -> bool:
        """Return whether the kubelet may hand out all that is on a GPU."""
        view = self.view()
        gpu = next(gpu for gpu in self.live.gpus if gpu.uuid == uuid)
        ids = truth.devices(gpu, self.replicas)
        return all(view.get(resource, {}).get(name) for resource, name in ids)

    def configure(self, text: str) -> None:
        """Write the configuration file anew, in one piece."""
        new = self.folder / "config.new"
        new.write_text(text)
        new.replace(self.folder / "config.yaml")

    async def start(self) -> None:
        """Start the service; what it left behind is still there."""
        options = f"--config-file={self.folder}/config.yaml"
        self.running = await self._stack.enter_async_context(
            service(self.folder, options, node=NODE)
        )
        self.seen = 0
        self.deaths = {}

    async def end(self, number: signal.Signals) -> int:
        """End the service, by a signal to its supervisor, and return its exit code."""
        self.running.process.send_signal(number)
        code = await self.running.ended()
        await self._stack.aclose()
        return code

    async def _pods(self) -> None:
        """Have pods come and go for ever."""
        held: list[str] = []
        for number in range(10**9):
            await asyncio.sleep(0.05)
            if held and (len(held) > 12 or self._random.random() < 0.5):
                self.kubelet.delete(held.pop(self._random.randrange(len(held))))
                continue
            resource, count = self._random.choice(RESOURCES), self._random.choice((1, 1, 2))
            with contextlib.suppress(AdmissionError):
                pod = self.kubelet.admit(f"pod {number}", resource, count)
                if await unless_hung_up(pod):
                    self.admitted += 1
                    held.append(f"pod {number}")

    async def _watch(self) -> None:
        """Note at once when the kubelet is told that a device is Healthy which is not."""
        while True:
            await self.kubelet.changed()
            self.judge()

    def judge(self) -> None:
        """Hold the kubelet's view against what must never be."""
        live = self.live
        owner, broken = truth.owners(live, self.replicas), truth.broken(live)
        self.broken_shown &= broken
        listed: dict[str, set[bool]] = {}
        for names in self.view().values():
            for name, healthy in names.items():
                listed.setdefault(owner.get(name, ""), set()).add(healthy)
        for uuid, states in listed.items():
            if states == {False} and uuid in broken:
                self.broken_shown.add(uuid)
            if True in states and uuid in broken and uuid in self.broken_shown:
                self.violations.append(f"{uuid} is broken, and Healthy again")
                self.broken_shown.discard(uuid)
            if True in states and time.monotonic() < self.not_before.get(uuid, 0.0):
                self.violations.append(f"{uuid} is Healthy before its quiet period is over")
                del self.not_before[uuid]

    def log_since(self) -> list[dict[str, object]]:
        """Return what the service has logged since the last call."""
        entries = self.running.entries[self.seen :]
        self.seen += len(entries)
        return entries

    def happens(self) -> None:
        """Take the time of a fault, from which all is measured; its bound begins here as well."""
        now = time.monotonic()
        self.deadline += now - self.began
        self.began = now

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something *holds*; TimeoutError when the fault's bound is over."""
        while not holds():
            await self._patience(what)

    async def _patience(self, what: str) -> None:
        if time.monotonic() > self.deadline:
            raise TimeoutError(f"no {what} {time.monotonic() - self.began:.1f} s after the fault")
        await asyncio.sleep(0.005)

    async def works(self, child: str) -> None:
        """Wait until a child does its work: one that begins may take two minutes, as a driver may.

        The service tells its states once a second, so that the pid says whose state it is.
        """
        while True:
            _, body = await self.running.get("/status")
            wanted = (child, "running", self.running.pids().get(child))
            processes = json.loads(body or "{}").get("processes") or ()
            if wanted in [
                (process["name"], process["state"], process["pid"]) for process in processes
            ]:
                return
            await self._patience(f"{child} at work")

    async def pid(self, child: str) -> int:
        """Return the pid of a child, which may have been about to start again on its own."""
        while (pid := self.running.pids().get(child)) is None:
            await self._patience(child)
        return pid

    async def strike(self, child: str, number: signal.Signals) -> int:
        """Send a signal to a child and return its pid."""
        while True:
            pid = await self.pid(child)
            with contextlib.suppress(ProcessLookupError):  # it ended just now: the next one then
                os.kill(pid, number)
                self.happens()
                return pid
            await self._patience(child)

    async def replaced(self, child: str, pid: int) -> None:
        """Wait for the successor of a child."""
        self.dies(child)
        await self.until(lambda: self.running.pids().get(child, pid) != pid, f"new {child}")

    def dies(self, child: str) -> None:
        """Allow for the wait before a child's next start, which doubles when it ends again soon."""
        now = time.monotonic()
        recent = [t for t in self.deaths.get(child, []) if now - t < FORGIVEN]
        self.deaths[child] = [*recent, now]
        if recent:
            self.deadline += min(0.1 * 2.0 ** (len(recent) - 1), 30.0)

    async def run(self) -> None:
        """Set everything up."""
        self.configure(configuration(self.replicas))
        await self.kubelet.start()
        await self.start()
        self._tasks = [asyncio.create_task(task) for task in (self._pods(), self._watch())]

    async def close(self) -> None:
        """Take everything down."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        await self.kubelet.close()

    def ended(self) -> list[str]:
        """Return what ended that should not have: the service, the pods, the watch."""
        found = [f"a task of the run: {t.exception()!r}" for t in self._tasks if t.done()]
        if self.running.process.returncode is not None:
            found.append(f"the service ended with code {self.running.process.returncode}")
        return found


@contextlib.asynccontextmanager
async def world(folder: Path, seed: int) -> AsyncIterator[World]:
    """Have a world in *folder* whose pods follow from *seed*."""
    # Become the parent of orphans: what a killed supervisor leaves behind is then seen.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    made = World(folder, seed)
    try:
        await made.run()
        yield made
    finally:
        await made.close()


def said(entries: list[dict[str, object]], message: str, **fields: object) -> bool:
    """Return whether there is an entry with *message* and *fields*."""
    wanted = {"message": message, **fields}.items()
    return any(wanted <= entry.items() for entry in entries)


def dump(entries: list[dict[str, object]]) -> str:
    """Return the log as lines."""
    return "\n".join(json.dumps(entry) for entry in entries)
