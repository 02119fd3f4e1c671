"""The real service under test: the command that users start, with its real processes."""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import zmq
from prometheus_client.parser import text_string_to_metric_families

from proto import bus
from proto.messages import NodeState, UsageState
from simulator.kubelet import Kubelet
from simulator.kubelet_habits import NEWEST, Habits
from simulator.live_node import LiveNode
from supervisor.reading import NAME as READER
from tests.fakes.forked import Forked, fork
from tests.fakes.local_http import Local
from tests.fakes.pids import Pids, named_children
from tests.fakes.words import words_of

PATIENCE = 60.0
"""Seconds after which a test stops waiting: a guard for hangs, not a limit that is tested."""

COMMAND = (sys.executable, "-m", "supervisor")

Entry = dict[str, Any]
Heard = TypeVar("Heard", NodeState, UsageState)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Service:
    """A running service, its folder and its log."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process | Forked) -> None:
        self.folder = folder
        self.process = process
        self.node = LiveNode(folder)
        self.entries: list[Entry] = []
        self._news = asyncio.Condition()

    async def read_log(self) -> None:
        """Collect the log until the service ends."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {"message": line.decode().rstrip()}
            self.entries.append(entry)
            async with self._news:
                self._news.notify_all()

    async def logged(self, message: str, after: int = 0, **fields: object) -> Entry:
        """Wait for a log entry with *message* and *fields*; skip the first *after* entries."""

        def found() -> Entry | None:
            wanted = {"message": message, **fields}.items()
            return next((e for e in self.entries[after:] if wanted <= e.items()), None)

        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(found)
        entry = found()
        assert entry is not None
        return entry

    def count(self, message: str) -> int:
        """Return how often *message* was logged."""
        return sum(entry["message"] == message for entry in self.entries)

    def pids(self) -> Pids:
        """Return the pids of the children by their titles, but for the one that comes and goes.

        `pids()[name]` waits for a child that starts.
        """
        return Pids(self.process.pid, READER, PATIENCE)

    async def runs(self, *names: str) -> None:
        """Wait until exactly these children run."""
        await until(lambda: self.pids().keys() == set(names), f"only {sorted(names)}")

    async def reader(self) -> int:
        """Wait for the process that reads the configuration; return its pid."""
        found: dict[str, int] = {}

        def is_there() -> bool:
            found.update(named_children(self.process.pid))
            return READER in found

        await until(is_there, "process that reads the configuration")
        return found[READER]

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Wait for the child with this *name*, send it a signal, and return its pid."""
        pid = self.pids()[name]
        os.kill(pid, number)
        return pid

    async def started(self, name: str) -> int:
        """Wait until the child *name* runs, and return its pid."""
        return await self.restarted(name, 0)

    async def restarted(self, name: str, old: int) -> int:
        """Wait until the child *name* has a pid other than *old*; return the new pid."""
        found = old

        def is_new() -> bool:
            nonlocal found
            found = self.pids().get(name, old)
            return found != old

        await until(is_new, f"a new {name}")
        return found

    def url(self) -> str:
        """Return the exporter's URL."""
        return (self.folder / "exporter.url").read_text()

    async def get(self, path: str) -> tuple[int, str]:
        """Return the status and the body of an HTTP answer; status 0 while nobody listens.

        Over the unix socket, where no body is a second old.
        """
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with contextlib.closing(Local(self.folder / "exporter.sock", PATIENCE)) as connection:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""

    async def ready(self) -> None:
        """Wait until /readyz answers 200."""

        async def is_ready() -> bool:
            return (await self.get("/readyz"))[0] == 200

        await until(is_ready, "readiness")

    async def says(self, path: str, text: str) -> None:
        """Wait until the body at *path* has this *text*."""

        async def is_said() -> bool:
            return text in (await self.get(path))[1]

        await until(is_said, f"{text!r} at {path}")

    async def samples(self) -> Samples:
        """Return the samples of /metrics."""
        families = text_string_to_metric_families((await self.get("/metrics"))[1])
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    async def shows(self, name: str, value: float, **labels: str) -> None:
        """Wait until the metric *name* has *value*."""

        async def is_shown() -> bool:
            return (await self.samples()).get((name, frozenset(labels.items()))) == value

        await until(is_shown, f"{name} {value}")

    async def publishes(self, epoch: int, sequence: int = 0) -> NodeState:
        """Wait for a node state of at least this epoch and sequence, and return it."""
        return await self._hears(NodeState, lambda state: state.age >= (epoch, sequence))

    async def shows_state(self, epoch: int, holds: Callable[[NodeState], bool]) -> NodeState:
        """Wait for a state of this monitor, or a later one, for which *holds* is true."""
        return await self._hears(NodeState, lambda state: state.epoch >= epoch and holds(state))

    async def shows_usage(self, holds: Callable[[UsageState], bool]) -> UsageState:
        """Wait for a message about usage for which *holds* is true, and return it."""
        return await self._hears(UsageState, holds)

    async def _hears(self, kind: type[Heard], holds: Callable[[Heard], bool]) -> Heard:
        """Return the monitor's next message of a *kind* for which *holds* is true.

        It subscribes once: for each new subscriber, the monitor publishes a state at once.
        """
        path = f"{self.folder}/health.ipc"
        inbox = bus.health_subscriber(zmq.Context.instance(), path, usage=kind is UsageState)
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    state = await bus.receive(inbox)
                    if isinstance(state, kind) and holds(state):
                        return state
        finally:
            inbox.close()

    async def stop(self) -> int:
        """Send SIGTERM to the service, and return its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        return await self.ended()

    async def ended(self) -> int:
        """Wait until the service ends, and return its exit code."""
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


async def until(condition: Callable[[], object | Awaitable[bool]], what: str) -> None:
    """Poll until *condition* holds, for changes in processes that cannot notify us."""
    deadline = time.monotonic() + PATIENCE
    pause = 0.002
    while True:
        holds = condition()
        if await holds if isinstance(holds, Awaitable) else holds:
            return
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE} s"
        await asyncio.sleep(pause)
        pause = min(1.3 * pause, 0.05)  # a long wait must not keep a core busy


def open_files(pid: int) -> list[str]:
    """Return the target of each open descriptor of a process; it may close some meanwhile."""
    found = []
    with contextlib.suppress(OSError):  # a process that ended has no open files
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.append(str(descriptor.readlink()))
    return found


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """Yield a temporary folder with a path short enough for socket names."""
    folder = Path(tempfile.mkdtemp(prefix="gs-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.asynccontextmanager
async def service(
    folder: Path,
    *options: str,
    node: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
    exec_because: str = "",
) -> AsyncIterator[Service]:
    """Run the service in *folder*, with the simulated *node* if it is given; kill it at the end.

    In process tests it is forked from a process that has imported it (tests/fakes/zygote.py). It
    is executed as users do it where *exec_because* says why this matters, where its *environment*
    asks for it, and by the command *within*, which starts the service in its own process.
    *options* may begin with the other tree's command, `mps`.
    """
    words = words_of(folder, options)
    if node is not None:
        (folder / "node.json").write_text(json.dumps(node))
        words.append(f"--simulated-node={folder}/node.json")
    whole = {**os.environ, **(environment or {})}
    forked = None if within or exec_because else await fork(words, whole)
    process = forked or await asyncio.create_subprocess_exec(
        *within, *COMMAND, *words, stderr=asyncio.subprocess.PIPE, env=whole
    )
    running = Service(folder, process)
    reader = asyncio.create_task(running.read_log())
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reader


@contextlib.asynccontextmanager
async def kubelet(folder: Path, habits: Habits = NEWEST) -> AsyncIterator[Kubelet]:
    """Run a stand-in kubelet in *folder*/kubelet, with the *habits* of a kubelet version."""
    running = Kubelet(folder / "kubelet", habits=habits)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
