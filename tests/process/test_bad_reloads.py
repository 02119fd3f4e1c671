"""No reload ends the service: what cannot be used is told, and the old configuration stays."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from simulator.live_node import LIVE_FILE
from tests.fakes import commands
from tests.fakes.configured import configured
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
KEPT = "cannot use the new configuration, keeping the old one"
LONG = "d" * 300
MANY = ", ".join(f"{{name: r{place}, replicas: 2}}" for place in range(6000))
FILES = {
    "a path too long": (
        f"flags: {{plugin: {{containerDriverRoot: /{LONG}}}}}",
        "write at most 255 bytes between two slashes",
    ),
    "a NUL in a path": (
        'flags: {plugin: {containerDriverRoot: "/a\\0"}}',
        "the text has a NUL or surrogate character",
    ),
    "nested too deeply": ("[" * 5000, "it is nested too deeply"),
    "an alias of itself": ("flags: &a {gfd: *a}", "an alias contains itself"),
    "not UTF-8": ("flags: \udcff", "codec can't decode"),
}


@pytest.mark.parametrize(("text", "problem"), FILES.values(), ids=FILES)
def test_a_file_that_cannot_be_used_is_told_and_changes_nothing(
    folder: Path, text: str, problem: str
) -> None:
    """The log, the metric and the status tell of it; the devices stay listed, also later."""

    async def story() -> None:
        async with configured(folder) as (path, node, running):
            pids = running.pids()
            path.write_bytes(text.encode(errors="surrogateescape"))
            told = await running.logged(KEPT)
            assert problem in told["reason"]
            await running.shows("gpu_sharing_config_last_reload_successful", 0)
            shown = json.loads((await running.get("/status"))[1])
            assert problem in shown["configuration"]["problem"]
            assert (running.process.returncode, running.pids()) == (None, pids)
            path.write_text("health: {xids: {79: ignore}}")
            await running.shows("gpu_sharing_config_last_reload_successful", 1)
            assert node.resources[GPU].lists == 1

    asyncio.run(story())


def test_a_damaged_node_file_on_sighup_changes_nothing(folder: Path) -> None:
    """A simulated node that cannot be read is told when a changed node file needs it."""

    async def story() -> None:
        async with kubelet(folder), service(folder, node={"gpus": [{}]}) as running:
            await running.ready()
            running.node.path.write_bytes(b"[" * 1000)
            os.kill(running.process.pid, signal.SIGHUP)
            # In one step: a service that reads half a file has another problem.
            (folder / "node.new").write_text('{"gpus": [{}, {}]}')
            (folder / "node.new").replace(folder / "node.json")
            os.kill(running.process.pid, signal.SIGHUP)
            told = await running.logged(KEPT)
            assert told["reason"].startswith("cannot read the simulated node")
            await running.shows("gpu_sharing_config_last_reload_successful", 0)
            assert running.process.returncode is None

    asyncio.run(story())


def test_thousands_of_resources_that_the_node_does_not_have_end_nothing(folder: Path) -> None:
    """What the supervisor tells the exporter stays small, however long the configuration is."""

    async def story() -> None:
        async with configured(folder) as (path, node, _):
            gone = ", ".join(f'"{place}:0"' for place in range(9000))
            entry = f"{{name: gpu, replicas: 3, devices: [0, {gone}]}}"
            path.write_text(f"sharing: {{timeSlicing: {{resources: [{entry}, {MANY}]}}}}")
            await node.until(lambda k: k.healthy(GPU) == 3)
            path.write_text("sharing: {timeSlicing: {resources: [{name: gpu, replicas: 4}]}}")
            await node.until(lambda k: k.healthy(GPU) == 4)

    asyncio.run(story())


@pytest.mark.parametrize("content", [b"{}", b"[" * 1000])
def test_a_damaged_node_at_the_start_is_one_line(folder: Path, content: bytes) -> None:
    """At the start a damaged simulated node is one line and exit code 1, not a traceback."""
    (folder / "node.json").write_text('{"gpus": [{}]}')
    (folder / LIVE_FILE).write_bytes(content)
    options = [f"--simulated-node={folder}/node.json", f"--runtime-dir={folder}"]
    options += [f"--state-dir={folder}", f"--device-plugin-path={folder}"]
    ended = commands.run("run", *options)
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, line.startswith("cannot read the simulated node")) == (1, True)
