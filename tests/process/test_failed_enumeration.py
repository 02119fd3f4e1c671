"""A new monitor cannot enumerate a GPU that was Healthy before."""

import asyncio
from pathlib import Path

from proto.requests import Quiesce, Resume
from supervisor.commands.ask import ask
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}
CONFIGURATION = "health: {pollInterval: 30s, staleAfter: 60s}\n"


def test_a_gpu_is_not_healthy_before_it_was_reached(folder: Path) -> None:
    """The first list after `resume` has the GPU as Unhealthy: no check has ever reached it."""

    async def story() -> None:
        (folder / "config.yaml").write_text(CONFIGURATION)
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await asyncio.to_thread(ask, folder, Quiesce())
            await node.until(lambda k: k.healthy(GPU) == 0)
            running.node.fail(1, "nvmlDeviceGetName", 999)
            await asyncio.to_thread(ask, folder, Resume())
            await node.until(lambda k: k.healthy(GPU) > 0)
            assert node.healthy(GPU) == 1

    asyncio.run(story())
