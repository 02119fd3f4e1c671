"""The node's labels get into the file that node feature discovery reads, and follow the node."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from proto.advertising import Advertising
from proto.channel import Channel
from proto.control import LabelNode
from proto.labels import LabelOutput, LabelSettings
from supervisor.labels.main import Labeller
from tests.fakes import nvml_library
from tests.fakes.figures import within
from tests.fakes.service import Service, kubelet, service, until
from tests.process.test_driver import half_installed
from tests.unit.builders import gpu, inventory

NODE: dict[str, object] = {"gpus": [{}, {}, {"mig": ["1g.10gb"]}]}
QUICK = "health: {rescanInterval: 100ms, pollInterval: 100ms}"
PLAIN = f"version: v1\nflags: {{migStrategy: mixed}}\n{QUICK}\n"
SHARED = f"{PLAIN}sharing: {{timeSlicing: {{resources: [{{name: gpu, replicas: 4}}]}}}}\n"
TROUBLE = "cannot write the node's labels, retrying"
FAST = 2000
"""Milliseconds within which a change is in the file."""


def file_in(folder: Path) -> Path:
    """Return the path of the file with labels."""
    return folder / "features.d" / "gpus"


def labels(folder: Path) -> dict[str, str]:
    """Return the labels in the file, without their domain."""
    with contextlib.suppress(FileNotFoundError):
        lines = file_in(folder).read_text().splitlines()
        pairs = (line.split("=") for line in lines if not line.startswith("#"))
        return {key.removeprefix("nvidia.com/"): value for key, value in pairs}
    return {}


def expires(folder: Path) -> float:
    """Return when the file expires, as unix time."""
    (line,) = (t for t in file_in(folder).read_text().splitlines() if "+expiry-time=" in t)
    text = line.partition("=")[2].removesuffix("Z")
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


async def shows(folder: Path, key: str, value: str | None) -> None:
    """Wait until the file has a label with this value."""
    await until(lambda: labels(folder).get(key) == value, f"{key}={value} in {labels(folder)}")


@contextlib.asynccontextmanager
async def started(folder: Path, *options: str) -> AsyncIterator[Service]:
    """Run the service with labels in a file."""
    config = folder / "config.yaml"
    if not config.exists():
        config.write_text(PLAIN)
    given = (f"--config-file={config}", f"--node-labels-file={file_in(folder)}", *options)
    async with (
        kubelet(folder),
        service(folder, "--node-labels=file", *given, node=NODE) as running,
    ):
        await running.logged("watching GPUs for Xid events")
        await shows(folder, "gpu.count", "3")
        yield running


def changed(folder: Path, config: str) -> None:
    """Replace the configuration file."""
    new = folder / "new.yaml"
    new.write_text(config)
    new.replace(folder / "config.yaml")


async def quickly(folder: Path, key: str, steps: Mapping[str, Callable[[], object]]) -> None:
    """Take these steps again and again until one is in the file fast enough."""
    loop = asyncio.get_running_loop()
    turn = iter([*steps.items()] * 10)

    def measure() -> float:
        value, act = next(turn)
        began = time.monotonic()
        act()
        asyncio.run_coroutine_threadsafe(shows(folder, key, value), loop).result()
        return (time.monotonic() - began) * 1000

    await asyncio.to_thread(within, FAST, f"a change until it is in the file, {key}", measure)


def test_the_labels_follow_the_node(folder: Path) -> None:
    """A GPU that is removed or added, a MIG layout and a configuration are in the file within two
    seconds.
    """

    async def story() -> None:
        async with started(folder) as running:
            assert "cluster" not in running.pids()
            node = running.node
            moves = {"2": lambda: node.remove(1), "3": lambda: node.add(1)}
            await quickly(folder, "gpu.count", moves)
            layouts = {
                "2": lambda: node.partition(2, ("1g.10gb", "1g.10gb")),
                "1": lambda: node.partition(2, ("1g.10gb",)),
            }
            await quickly(folder, "mig-1g.10gb.count", layouts)
            configurations = {
                "time-slicing": lambda: changed(folder, SHARED),
                "none": lambda: changed(folder, PLAIN),
            }
            await quickly(folder, "gpu.sharing-strategy", configurations)
            assert running.count("process ended, restarting it") == 0

    asyncio.run(story())


def test_the_labels_outlive_every_process(folder: Path) -> None:
    """Whichever process is killed, the file keeps its labels, and follows the node afterwards."""

    async def story() -> None:
        async with started(folder) as running:
            before = labels(folder)
            for name in ("labels", "monitor", "exporter", "worker nvidia.com/gpu"):
                await running.restarted(name, running.kill(name))
                assert labels(folder) == before
            running.node.remove(1)
            await shows(folder, "gpu.count", "2")
            os.kill(running.process.pid, signal.SIGKILL)
            await running.ended()
            assert labels(folder)["gpu.count"] == "2"

    asyncio.run(story())


def test_the_file_is_renewed_and_stays(folder: Path) -> None:
    """The file expires three intervals after it was written, is written again after each interval
    and once more at a planned end.
    """

    async def story() -> None:
        async with started(folder, "--node-labels-interval=1s") as running:
            first = expires(folder)
            await until(lambda: expires(folder) > first, "renewal")
            began = time.time()
            assert await running.stop() == 0
            assert began + 3 - 1 <= expires(folder) <= time.time() + 3
            assert labels(folder)["gpu.count"] == "3"

    asyncio.run(story())


def test_a_clock_that_is_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When somebody sets the node's clock, the file is written again, or NFD would ignore it."""
    real, ahead = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    settings = LabelSettings("", 10.0, LabelOutput.FILE, file=str(file_in(folder)), interval=60.0)

    async def story() -> None:
        nonlocal ahead
        supervisor, end = Channel.pair()
        with contextlib.closing(supervisor), contextlib.closing(end):
            supervisor.send(LabelNode(inventory(gpu(0)), Advertising()))
            task = asyncio.create_task(Labeller(settings, end).run())
            await shows(folder, "gpu.count", "1")
            for moved in (3600.0, -3600.0):
                ahead = moved
                await until(lambda: abs(expires(folder) - time.time() - 180) < 30, "a new expiry")
            task.cancel()

    asyncio.run(story())


def test_a_folder_that_others_can_write_to(folder: Path) -> None:
    """An unsafe folder is one log line and a metric, and disturbs nothing; the file is written when
    the folder is safe.
    """

    async def story() -> None:
        async with started(folder) as running:
            file_in(folder).parent.chmod(0o777)
            running.node.remove(1)
            told = await running.logged(TROUBLE, output="file")
            assert "other users can write to it" in told["reason"]
            await running.shows("gpu_sharing_node_labels_written", 0.0, output="file")
            await running.says("/status", "cannot write the node's labels (file): ")
            assert labels(folder)["gpu.count"] == "3"
            file_in(folder).parent.chmod(0o755)
            await shows(folder, "gpu.count", "2")
            await running.shows("gpu_sharing_node_labels_written", 1.0, output="file")
            await running.logged("the node's labels are written again")
            assert running.count(TROUBLE) == 1
            assert running.count("the node's labels are written again") == 1

    asyncio.run(story())


def test_a_file_that_cannot_be_replaced(folder: Path) -> None:
    """The reason names the file and the cause."""

    async def story() -> None:
        async with started(folder) as running:
            file_in(folder).unlink()
            file_in(folder).mkdir()
            running.node.remove(1)
            told = await running.logged(TROUBLE, output="file")
            assert told["reason"] == f'cannot write "{file_in(folder)}": Is a directory'
            file_in(folder).rmdir()
            await shows(folder, "gpu.count", "2")

    asyncio.run(story())


def test_the_number_of_healthy_gpus(folder: Path) -> None:
    """With the option the file has the number of Healthy GPUs, which follows their health."""

    async def story() -> None:
        async with started(folder, "--node-labels-health") as running:
            await shows(folder, "gpu.healthy-count", "3")
            running.node.xid(0, 79)
            await shows(folder, "gpu.healthy-count", "2")

    asyncio.run(story())


def test_a_driver_that_comes_later(folder: Path, library: Path) -> None:
    """With a driver that cannot be used yet, no file is written, and an earlier one stays; the
    labels appear when the driver can be used, without a restart of the process that writes them.
    """

    async def story() -> None:
        root = folder / "root"
        options = ("--fail-on-init-error=false", f"--driver-root-ctr-path={root}")
        labelled = ("--node-labels=file", f"--node-labels-file={file_in(folder)}")
        environment = {"STANDIN_NVML_DIR": str(folder)}
        file_in(folder).parent.mkdir()
        file_in(folder).write_text("nvidia.com/gpu.count=8\n")
        place = half_installed(root)
        async with service(folder, *options, *labelled, environment=environment) as running:
            await running.logged("process is not ready")
            old = await running.started("labels")
            assert labels(folder) == {"gpu.count": "8"}
            os.link(library, place.with_suffix(".new"))
            place.with_suffix(".new").replace(place)
            await shows(folder, "gpu.count", str(len(nvml_library.GPU_UUIDS)))
            assert running.pids()["labels"] == old

    asyncio.run(story())


def test_without_the_option_there_is_no_process(folder: Path) -> None:
    """By default no process labels the node, and no file is written."""

    async def story() -> None:
        async with service(folder, node=NODE) as running:
            await running.logged("watching GPUs for Xid events")
            assert not {"labels", "cluster"} & running.pids().keys()
            assert not file_in(folder).exists()

    asyncio.run(story())
