"""A process that has used up its file descriptors continues, and catches up later."""

import asyncio
import gc
import os
import resource
import socket
from pathlib import Path

import grpc
import pytest

from supervisor.exporter.pod_resources import PodResources
from tests.chaos.of_processes import no_more_descriptors
from tests.fakes.service import PATIENCE, kubelet, service
from workers.kubelet import KubeletError, register, require_free

GPU = "nvidia.com/gpu"
WORKER = f"worker {GPU}"
LOWEST = 12
"""A limit that a worker survives: its first descriptors stay open, and it polls fewer at once."""

NODE: dict[str, object] = {"gpus": [{}, {}]}


def test_a_worker_without_descriptors(folder: Path) -> None:
    """A worker without free descriptors logs that it cannot register with a new kubelet, and
    registers once it can open a socket.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            pid = running.pids()[WORKER]
            before = no_more_descriptors(pid)
            # The limit is below every connection: a descriptor that the kubelet frees cannot be
            # reused.
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (LOWEST, before[1]))
            await node.stop()
            await node.start()
            entry = await running.logged("cannot register with the kubelet, retrying")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert (running.pids()[WORKER], "Too many open" in entry["error"]) == (pid, True)

    asyncio.run(story())


def test_a_socket_path_that_cannot_be_checked(folder: Path) -> None:
    """Without a free descriptor, checking the socket's path fails with an error that says so."""
    before = no_more_descriptors(os.getpid())
    last = os.dup(0)  # the descriptor that was free while the open ones were counted
    try:
        with pytest.raises(KubeletError, match=r"cannot listen on .* Too many open files"):
            require_free(f"{folder}/nvidia-gpu.sock")
    finally:
        resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, before)
        os.close(last)


def test_a_registration_without_descriptors(folder: Path) -> None:
    """Without a free descriptor, a registration fails with one readable line that says so."""

    async def story() -> None:
        path = str(folder / "kubelet.sock")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        # gRPC keeps its descriptors as long as there is a channel or, in a worker, a server.
        async with grpc.aio.insecure_channel(f"unix:{path}"):
            with pytest.raises(KubeletError, match="refused"):
                await register(path, "gpu.sock", GPU)
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (LOWEST, before[1]))
            try:
                with pytest.raises(KubeletError, match="Too many open files") as failed:
                    await register(path, "gpu.sock", GPU)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert str(failed.value).isprintable()

    asyncio.run(story())


def test_pod_resources_without_descriptors(folder: Path) -> None:
    """Without a free descriptor, the exporter does not know the holders, and asks again later."""

    async def story() -> None:
        gc.collect()  # a channel of an earlier test would keep gRPC's descriptors open
        pods = PodResources(f"{folder}/pods.sock", frozenset)
        assert await asyncio.wait_for(pods.next(), PATIENCE) is None  # nobody serves the socket
        before = no_more_descriptors(os.getpid())
        try:
            pods.look()
            assert await asyncio.wait_for(pods.next(), PATIENCE) is None
        finally:
            resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, before)

    asyncio.run(story())
