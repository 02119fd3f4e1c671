"""The world of a chaos run: a simulated node, a kubelet, pods, and the service under test."""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

from msgspec.structs import replace

from simulator.kubelet import AdmissionError
from simulator.node import Live
from tests.chaos import truth
from tests.chaos.calls import unless_hung_up
from tests.chaos.gpus import Gpus
from tests.chaos.pulse import Pulse
from tests.chaos.stage import (
    CONFIGURATION,
    FORGIVEN,
    LABEL,
    NODE,
    REPLICAS,
    RESOURCES,
    configuration,
    toolkit,
)
from tests.chaos.troubled import TroubledKubelet
from tests.conftest import PR_SET_CHILD_SUBREAPER, children
from tests.fakes.apiserver import ApiServer
from tests.fakes.service import Service, service


class World:
    """The state of a chaos run: faults change it, invariants check it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.kubelet = TroubledKubelet(folder / "kubelet", seed)
        self.api = ApiServer(labels={LABEL: CONFIGURATION})
        self.running: Service
        self.replicas = REPLICAS
        self.quiesced = False
        self.host = toolkit(folder)
        self.named = True
        """Whether the CDI specification names the devices."""
        self.blocked: Counter[str] = Counter()
        """How many faults keep each resource from being served."""
        self.absent: set[str] = set()
        """Children that do not run during a fault."""
        self.gpus = Gpus()
        self.strangers = children(os.getpid())
        """Processes of the run that are neither the service nor of it."""
        self.violations: list[str] = []
        self.deaths: dict[str, list[float]] = {}
        """The times at which each child was killed, since the supervisor's start."""
        self.began = self.deadline = 0.0
        """The time of the newest fault, and the time at which all invariants must hold."""
        self.alone = True
        """Whether only one fault happens at a time."""
        self.admitted = 0
        self._pulse = Pulse()
        self.seen = 0
        """Log entries that were checked."""
        self._random = Random(seed)  # noqa: S311 - a choice of pods, not a secret
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def configurations(self) -> Path:
        """The folder in which the node's label chooses the configuration file."""
        return self.folder / "configurations"

    @property
    def live(self) -> Live:
        """The present state of the simulated node."""
        return self.running.node.read()

    def view(self) -> truth.View:
        """Return the kubelet's lists, without resources that are empty or not connected."""
        return {
            resource.name: {name: health == "Healthy" for name, health in resource.devices.items()}
            for resource in self.kubelet.resources.values()
            if resource.devices and resource.connected
        }

    def served(self) -> set[str]:
        """Return the resources whose workers are connected to the kubelet."""
        return set(self.view()) if self.kubelet.up else set()

    def expected(self) -> truth.View:
        """Return the lists that the kubelet should have."""
        live = replace(self.live, layouts={**self.live.layouts, **self.gpus.unseen})
        found = truth.expected(live, truth.Service(self.replicas, self.quiesced, self.named))
        return {name: devices for name, devices in found.items() if not self.blocked[name]}

    def differs(self) -> list[str]:
        """Return each difference between the expected and the present lists."""
        view = {n: listed for n, listed in self.view().items() if not self.blocked[n]}
        return truth.difference(view, self.expected())

    def hands_out(self, uuid: str) -> bool:
        """Return whether all devices of a GPU are listed as Healthy."""
        view = self.view()
        gpu = next(gpu for gpu in self.live.gpus if gpu.uuid == uuid)
        ids = truth.devices(gpu, self.replicas)
        return all(view.get(resource, {}).get(name) for resource, name in ids)

    def configure(self, text: str) -> None:
        """Replace the configuration file in one step."""
        new = self.folder / "config.new"
        new.write_text(text)
        new.replace(self.configurations / CONFIGURATION)

    async def start(self) -> None:
        """Start the service; files of an earlier service are still there."""
        options = (
            f"--config-dir={self.configurations}",
            f"--config-default={CONFIGURATION}",
            f"--node-name={self.api.node}",
            f"--cdi-spec-dir={self.host.specs}",
            "--device-list-strategy=envvar,cdi-annotations",
        )
        environment = {**self.host.environment, **self.api.kubeconfig(self.folder)}
        self.running = await self._stack.enter_async_context(
            service(self.folder, *options, node=NODE, environment=environment)
        )
        self.seen = 0
        self.deaths = {}

    async def end(self, number: signal.Signals) -> int:
        """Send a signal to the supervisor, wait for its end, and return the exit code."""
        self.running.process.send_signal(number)
        code = await self.running.ended()
        await self._stack.aclose()
        return code

    async def _pods(self) -> None:
        """Create and delete pods until cancelled."""
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
        """Judge each new list of the kubelet at once."""
        while True:
            await self.kubelet.changed()
            self.judge()

    def judge(self) -> None:
        """Report a violation if the kubelet's lists show a GPU as it may not be listed."""
        if self._pulse.late:
            self.gpus.excuse()
        live = self.live
        owner, broken = truth.owners(live, self.replicas), truth.broken(live)
        listed: dict[str, set[bool]] = {}
        for names in self.view().values():
            for name, healthy in names.items():
                listed.setdefault(owner.get(name, ""), set()).add(healthy)
        self.violations += self.gpus.judge(listed, broken, time.monotonic())

    def log_since(self) -> list[dict[str, object]]:
        """Return the new log entries since the last call."""
        entries = self.running.entries[self.seen :]
        self.seen += len(entries)
        return entries

    def happens(self) -> None:
        """Set the time of the fault to now, and move its time limit accordingly."""
        now = time.monotonic()
        self.deadline += now - self.began
        self.began = now

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until *holds* returns true; raises TimeoutError after the time limit."""
        while not holds():
            await self.patience(what)

    async def patience(self, what: str) -> None:
        """Wait a little; raises TimeoutError after the time limit."""
        if time.monotonic() > self.deadline:
            waited = time.monotonic() - self.began
            raise TimeoutError(f"no {what} within {waited:.1f} s after the fault")
        await asyncio.sleep(0.005)

    async def works(self, child: str) -> None:
        """Wait until a child is running: a starting child may take two minutes, as a driver may.

        /status is up to a second old, so its pid must be the present one.
        """
        while True:
            _, body = await self.running.get("/status")
            wanted = (child, "running", self.running.pids().get(child))
            processes = json.loads(body or "{}").get("processes") or ()
            if wanted in [
                (process["name"], process["state"], process["pid"]) for process in processes
            ]:
                return
            await self.patience(f"running {child}")

    async def shows(self, metric: str, value: float) -> None:
        """Wait until a metric without labels has this value."""
        while (await self.running.samples()).get((metric, frozenset())) != value:
            await self.patience(f"{metric} {value}")

    async def pid(self, child: str) -> int:
        """Return the pid of a child, and wait for it if the child is restarting."""
        while (pid := self.running.pids().get(child)) is None:
            await self.patience(child)
        return pid

    async def strike(self, child: str, number: signal.Signals) -> int:
        """Send a signal to a child and return its pid."""
        while True:
            pid = await self.pid(child)
            with contextlib.suppress(ProcessLookupError):  # if it has just ended, try the next one
                os.kill(pid, number)
                self.happens()
                return pid
            await self.patience(child)

    async def replaced(self, child: str, pid: int) -> None:
        """Wait until a child has been restarted."""
        self.dies(child)
        await self.until(lambda: self.running.pids().get(child, pid) != pid, f"new {child}")

    def dies(self, child: str) -> None:
        """Extend the time limit by the wait before the child's restart, which grows each time."""
        now = time.monotonic()
        recent = [t for t in self.deaths.get(child, []) if now - t < FORGIVEN]
        self.deaths[child] = [*recent, now]
        if recent:
            self.deadline += min(0.1 * 2.0 ** (len(recent) - 1), 30.0)

    async def run(self) -> None:
        """Start everything."""
        self.configurations.mkdir()
        self.configure(configuration(self.replicas))
        await self.api.start()
        await self.kubelet.start()
        await self.start()
        beat = self._pulse.beat(self.gpus.excuse)
        self._tasks = [asyncio.create_task(task) for task in (self._pods(), self._watch(), beat)]

    async def close(self) -> None:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        await self.kubelet.close()
        await self.api.stop()

    def ended(self) -> list[str]:
        """Return what has ended but should run: the service, the pods, the watch."""
        found = [f"a task of the run ended: {t.exception()!r}" for t in self._tasks if t.done()]
        if self.running.process.returncode is not None:
            found.append(f"the service exited with code {self.running.process.returncode}")
        return found


@contextlib.asynccontextmanager
async def world(folder: Path, seed: int) -> AsyncIterator[World]:
    """Run a world in *folder*; *seed* decides on its pods."""
    # Become the parent of orphans, to notice processes that a killed supervisor left behind.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    made = World(folder, seed)
    try:
        await made.run()
        yield made
    finally:
        await made.close()


def said(entries: list[dict[str, object]], message: str, **fields: object) -> bool:
    """Return whether the log has an entry with *message* and *fields*."""
    wanted = {"message": message, **fields}.items()
    return any(wanted <= entry.items() for entry in entries)


def dump(entries: list[dict[str, object]]) -> str:
    """Return the log as text, one JSON entry a line."""
    return "\n".join(json.dumps(entry) for entry in entries)
