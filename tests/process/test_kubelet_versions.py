"""The kubelet versions in use behave differently: registration and allocation work with each of
them.
"""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from simulator.kubelet import Kubelet
from simulator.kubelet_habits import VERSIONS
from tests.fakes.service import Service, kubelet, service

GPU = "nvidia.com/gpu"
WORKER = f"worker {GPU}"
NODE: dict[str, object] = {"gpus": [{}, {}]}
OPTIONS = "--device-list-strategy=envvar,cdi-cri"

versions = pytest.mark.parametrize("version", VERSIONS)


async def served(node: Kubelet, running: Service, registrations: int) -> None:
    """Wait for so many registrations, until both devices are Healthy and the service is ready."""
    await node.until(lambda k: k.registrations >= registrations and k.healthy(GPU) == 2)
    await running.ready()


@versions
def test_a_kubelet_restart(folder: Path, version: str) -> None:
    """Devices are registered and allocated, and listed again after a kubelet restart."""

    async def story() -> None:
        habits = VERSIONS[version]
        async with kubelet(folder, habits) as node, service(folder, OPTIONS, node=NODE) as running:
            await served(node, running, 1)
            pod = await node.admit("pod", GPU, 1)
            assert pod.envs == {"NVIDIA_VISIBLE_DEVICES": pod.ids[0]}
            assert len(pod.cdi) == (1 if habits.reads_cdi else 0)
            running.node.xid(0, 79)
            await node.until(lambda k: k.healthy(GPU) == 1)
            running.node.reset(0)
            await node.stop()
            await node.start()
            await node.until(lambda k: k.registrations == 2 and k.healthy(GPU) == 1)
            await running.runs("monitor", "exporter", WORKER)

    asyncio.run(story())


@versions
def test_a_killed_worker(folder: Path, version: str) -> None:
    """A worker that is killed is registered and listed again."""

    async def story() -> None:
        habits = VERSIONS[version]
        async with kubelet(folder, habits) as node, service(folder, node=NODE) as running:
            await served(node, running, 1)
            await running.restarted(WORKER, running.kill(WORKER))
            await served(node, running, 2)
            await node.admit("pod", GPU, 2)

    asyncio.run(story())


@versions
def test_a_second_registration_beside_an_open_stream(folder: Path, version: str) -> None:
    """After a second registration, the kubelet keeps both streams and every update arrives. If the
    end of the first stream disconnects the second one too, the worker registers again.
    """

    async def story() -> None:
        habits = VERSIONS[version]
        async with kubelet(folder, habits) as node, service(folder, node=NODE) as running:
            await served(node, running, 1)
            first = node.resources[GPU]
            os.utime(node.socket)  # a new ctime, as after a restart
            await served(node, running, 2)
            running.node.xid(0, 79)
            await node.until(lambda k: k.healthy(GPU) == 1)
            await first.channel.close()
            if habits.knows_by_name:
                await node.until(lambda k: k.registrations == 3 and k.healthy(GPU) == 1)
            running.node.xid(1, 79)
            await node.until(lambda k: k.healthy(GPU) == 0)
            assert node.resources[GPU].connected

    asyncio.run(story())


@versions
def test_a_kubelet_that_starts_last(folder: Path, version: str) -> None:
    """A kubelet that starts long after the plugin gets the devices, even if a worker was killed."""

    async def story() -> None:
        habits = VERSIONS[version]
        async with service(folder, node=NODE) as running:
            await running.logged("cannot register with the kubelet, retrying")
            running.kill(WORKER, signal.SIGKILL)
            async with kubelet(folder, habits) as node:
                await served(node, running, 1)

    asyncio.run(story())
