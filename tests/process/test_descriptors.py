"""A process that may open nothing more goes on, and does what it could not as soon as it can."""

import asyncio
import os
import resource
from pathlib import Path

import pytest

from tests.chaos.of_processes import no_more_descriptors
from tests.fakes.service import kubelet, service
from workers.kubelet import KubeletError, require_free

GPU = "nvidia.com/gpu"
WORKER = f"worker {GPU}"
LOWEST = 12
"""A worker's first descriptors are never closed, and it polls fewer than so many at once."""

NODE: dict[str, object] = {"gpus": [{}, {}]}


def test_a_worker_without_descriptors(folder: Path) -> None:
    """A worker that cannot open a socket for a new kubelet says so, and registers when it can."""

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            pid = running.pids()[WORKER]
            before = no_more_descriptors(pid)
            # Below every connection: the number of one that the kubelet closes is not free then.
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (LOWEST, before[1]))
            await node.stop()
            await node.start()
            entry = await running.logged("cannot register with the kubelet, retrying")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert (running.pids()[WORKER], "Too many open" in entry["error"]) == (pid, True)

    asyncio.run(story())


def test_a_place_that_cannot_be_looked_at(folder: Path) -> None:
    """Without a descriptor to look whether its place is free, a worker knows why it waits."""
    before = no_more_descriptors(os.getpid())
    last = os.dup(0)  # the one with which the open ones were counted
    try:
        with pytest.raises(KubeletError, match=r"cannot listen on .* Too many open files"):
            require_free(f"{folder}/nvidia-gpu.sock")
    finally:
        resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, before)
        os.close(last)
