"""No storm of reports, labels, signals or files keeps the supervisor from its other work."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from inotify_simple import INotify, flags

from proto.requests import Resume
from supervisor.commands.ask import ask
from supervisor.maintenance import NOTHING_TO_RESUME
from supervisor.reload_schedule import EVERY
from tests.fakes.apiserver import ApiServer, apiserver
from tests.fakes.configured import configured
from tests.fakes.service import Service, kubelet, service

GPU, LABEL = "nvidia.com/gpu", "nvidia.com/device-plugin.config"
FLIP = 0.1
"""Seconds between two changes of the label: less than it takes to read one of the files."""


def slow(replicas: int) -> str:
    """Return a configuration of 120 KB, which takes about a second to read."""
    others = "".join(f", {{name: r{place}, replicas: 2}}" for place in range(4300))
    shares = f"[{{name: gpu, replicas: {replicas}}}{others}]"
    return f"version: v1\nsharing: {{timeSlicing: {{resources: {shares}}}}}\n"


@contextlib.asynccontextmanager
async def flapping(api: ApiServer, *names: str) -> AsyncIterator[None]:
    """Change the label of the node all the time."""

    async def flap() -> None:
        for name in itertools.cycle(names):
            await api.label(LABEL, name)
            await asyncio.sleep(FLIP)

    task = asyncio.create_task(flap())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_flapping_label_starves_nothing(folder: Path) -> None:
    """A label that changes faster than its file is read: devices are served, requests answered,
    and dead processes replaced; when it stays, its file is the one in force.
    """

    async def story() -> None:
        configurations = folder / "configurations"
        configurations.mkdir()
        for replicas in (2, 3):
            (configurations / str(replicas)).write_text(slow(replicas))
        options = ("--node-name=node-1", f"--config-dir={configurations}", "--config-default=2")
        async with apiserver() as api, kubelet(folder) as node:
            environment = api.kubeconfig(folder)
            async with service(
                folder, *options, node={"gpus": [{}]}, environment=environment
            ) as running:
                async with flapping(api, "2", "3"):
                    await node.until(lambda k: k.healthy(GPU) > 1)
                    assert await asyncio.to_thread(ask, folder, Resume()) == NOTHING_TO_RESUME
                    await running.restarted("exporter", running.kill("exporter"))
                    await running.ready()
                await api.label(LABEL, "3")
                await node.until(lambda k: k.healthy(GPU) == 3)
                assert await running.stop() == 0

    asyncio.run(story())


def test_a_storm_of_signals_reads_the_file_once_a_second(folder: Path) -> None:
    """However many SIGHUPs arrive, the file is read at most once a second, and not in vain."""

    async def story() -> None:
        async with configured(folder) as (path, node, running):
            with INotify() as watch:
                watch.add_watch(str(path), flags.OPEN)
                reads, began = 0, time.monotonic()
                for _ in range(100):
                    os.kill(running.process.pid, signal.SIGHUP)
                    # Each time: the kernel merges equal events that nobody has read.
                    reads += len(await asyncio.to_thread(watch.read, 20))
                (folder / "new").write_text(
                    "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2}]}}"
                )
                took = time.monotonic() - began
                (folder / "new").replace(path)
                os.kill(running.process.pid, signal.SIGHUP)
                await node.until(lambda k: k.healthy(GPU) == 2)
            assert 0 < reads <= took / EVERY + 2

    asyncio.run(story())


def test_a_slow_file_system_delays_nothing_but_the_reading(folder: Path) -> None:
    """While the process that reads the configuration stands still, everything else goes on."""

    async def story() -> None:
        async with configured(folder) as (path, node, running):
            path.write_text(slow(2))
            reader = await running.reader()
            os.kill(reader, signal.SIGSTOP)
            assert await asyncio.to_thread(ask, folder, Resume()) == NOTHING_TO_RESUME
            await running.restarted("exporter", running.kill("exporter"))
            assert node.healthy(GPU) == 1
            os.kill(reader, signal.SIGCONT)
            await node.until(lambda k: k.healthy(GPU) == 2)

    asyncio.run(story())


def test_a_reader_that_is_killed_changes_nothing(folder: Path) -> None:
    """If the process that reads the configuration dies, the log says so and the old one stays."""

    async def story() -> None:
        async with configured(folder) as (path, node, running):
            path.write_text(slow(2))
            os.kill(await running.reader(), signal.SIGKILL)
            told = await running.logged("cannot use the new configuration, keeping the old one")
            assert "the process that reads it ended: killed by SIGKILL" in told["reason"]
            os.kill(running.process.pid, signal.SIGHUP)
            await node.until(lambda k: k.healthy(GPU) == 2)

    asyncio.run(story())


@contextlib.asynccontextmanager
async def busy(folder: Path, work: float, **children: str) -> AsyncIterator[Service]:
    """Run a supervisor with children of bad habits."""
    named = [f"{name}={habit}" for name, habit in children.items()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.busy_supervisor", str(folder), str(work), *named),
        stderr=asyncio.subprocess.PIPE,
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


def test_a_child_that_floods_the_supervisor_starves_nobody(folder: Path) -> None:
    """A child sends reports without end: requests are answered, and a hung process is killed."""

    async def story() -> None:
        async with busy(folder, 0.0, flood="flood", monitor="beat", mute="hang") as running:
            await running.logged("killing a process", child="mute", why="no heartbeat")
            assert await asyncio.to_thread(ask, folder, Resume()) == NOTHING_TO_RESUME
            killed = [e for e in running.entries if e["message"] == "killing a process"]
            assert {e["child"] for e in killed} == {"mute"}

    asyncio.run(story())


def test_long_turns_excuse_no_process_that_hangs(folder: Path) -> None:
    """The supervisor works longer in each turn than a standstill lasts: a process that hangs is
    killed all the same, and none whose heartbeats wait to be read.
    """

    async def story() -> None:
        async with busy(folder, 0.5, finds="find GPUs", monitor="beat", mute="hang") as running:
            await running.logged("killing a process", child="mute", why="no heartbeat")
            killed = [e for e in running.entries if e["message"] == "killing a process"]
            assert {e["child"] for e in killed} == {"mute"}

    asyncio.run(story())
