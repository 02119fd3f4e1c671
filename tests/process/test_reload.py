"""The configuration changes while the service runs: good files take effect, bad ones do not."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

from simulator.kubelet import Kubelet
from tests.fakes.service import Service, kubelet, service

GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
NODE: dict[str, object] = {"gpus": [{}, {}]}
PLAIN = "version: v1\n"
SHARING = """
version: v1
sharing: {{timeSlicing: {{renameByDefault: true, resources: [{{name: gpu, replicas: {}}}]}}}}
"""
FATAL = "version: v1\nhealth: {xids: {94: fatal}}\n"
BAD = "version: v1\nhealth: {xids: {94: deadly}}\n"


@contextlib.asynccontextmanager
async def started(folder: Path, text: str) -> AsyncIterator[tuple[Kubelet, Service]]:
    """Run the service with a configuration file of this text, linked as in a ConfigMap volume."""
    put(folder, text)
    options = f"--config-file={folder}/config.yaml"
    async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
        await running.logged("watching GPUs for Xid events")
        await running.ready()
        await node.until(lambda k: count(k, GPU) + count(k, SHARED) > 0)
        yield node, running


def put(folder: Path, text: str) -> None:
    """Replace the file as the kubelet replaces a ConfigMap: point a link to another folder."""
    version = folder / f"data-{len(list(folder.glob('data-*')))}"
    version.mkdir()
    (version / "config.yaml").write_text(text)
    new = folder / "new"
    new.symlink_to(version)
    new.replace(folder / "data")
    with contextlib.suppress(FileExistsError):
        (folder / "config.yaml").symlink_to("data/config.yaml")


def count(node: Kubelet, name: str) -> int:
    """Return how many devices of a resource are listed."""
    known = node.resources.get(name)
    return len(known.devices) if known else 0


def test_sharing_changes_without_a_restart(folder: Path) -> None:
    """More replicas are listed without a restart; a renamed resource replaces the old one."""

    async def story() -> None:
        async with started(folder, SHARING.format(2)) as (node, running):
            assert count(node, SHARED) == 4
            pids = running.pids()
            put(folder, SHARING.format(3))
            await node.until(lambda k: count(k, SHARED) == 6)
            assert running.pids() == pids
            put(folder, PLAIN)
            await node.until(lambda k: count(k, GPU) == 2 and count(k, SHARED) == 0)
            assert running.pids()["monitor"] == pids["monitor"]

    asyncio.run(story())


def test_new_xid_rules_restart_the_monitor(folder: Path) -> None:
    """A new rule for an Xid restarts the monitor and then holds; the kubelet gets no new list."""

    async def story() -> None:
        async with started(folder, PLAIN) as (node, running):
            monitor = running.pids()["monitor"]
            seen = len(running.entries)
            put(folder, FATAL)
            await running.restarted("monitor", monitor)
            await running.logged("watching GPUs for Xid events", after=seen)
            ended = [e for e in running.entries if e["message"] == "process ended, restarting it"]
            assert not [entry for entry in ended if entry["level"] == "warning"]
            assert (node.resources[GPU].lists, node.registrations) == (1, 1)
            running.node.xid(0, 94)
            await node.until(lambda k: k.healthy(GPU) == 1)

    asyncio.run(story())


def test_a_bad_file_changes_nothing(folder: Path) -> None:
    """A bad or missing file is logged and changes nothing until a good file comes."""

    async def story() -> None:
        async with started(folder, SHARING.format(2)) as (node, running):
            pids = running.pids()
            put(folder, BAD)
            told = await running.logged("cannot use the new configuration, keeping the old one")
            os.kill(running.process.pid, signal.SIGHUP)
            (folder / "data/config.yaml").unlink()
            await running.logged(
                "cannot use the new configuration, keeping the old one",
                reason=f'cannot use the configuration file "{folder}/config.yaml": '
                "No such file or directory",
            )
            assert (count(node, SHARED), running.pids()) == (4, pids)
            assert "health.xids: 94" in told["reason"]
            put(folder, SHARING.format(4))
            await node.until(lambda k: count(k, SHARED) == 8)

    asyncio.run(story())


def test_a_signal_reads_the_file_again(folder: Path) -> None:
    """SIGHUP ends no process, and a changed file takes effect after it."""

    async def story() -> None:
        async with started(folder, PLAIN) as (node, running):
            pids = running.pids()
            os.kill(running.process.pid, signal.SIGHUP)
            (folder / "data/config.yaml").write_text(SHARING.format(2))
            os.kill(running.process.pid, signal.SIGHUP)
            await node.until(lambda k: count(k, SHARED) == 4)
            assert running.pids()["monitor"] == pids["monitor"]
            assert running.process.returncode is None

    asyncio.run(story())
