"""A GPU of the simulated node hangs: the log names the call, and pods get the other GPUs."""

import asyncio
from pathlib import Path

import pytest

from simulator.kubelet import AdmissionError
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}
CONFIGURATION = "health: {hangAfter: 3s, pollInterval: 500ms}\n"


def test_allocate_names_the_call_that_hangs(folder: Path) -> None:
    """Allocate of the GPU that hangs fails with the reason, and the other GPU is allocated."""

    async def story() -> None:
        (folder / "config.yaml").write_text(CONFIGURATION)
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            monitor = running.pids()["monitor"]
            running.node.hang(1)
            told = await running.logged("the driver hangs", index=1)
            assert told["uuid"].startswith("GPU-")
            await node.until(lambda k: k.healthy(GPU) == 1)
            await node.admit("pod", GPU, 1)
            node.resources[GPU].devices = dict.fromkeys(node.resources[GPU].devices, "Healthy")
            with pytest.raises(AdmissionError, match=f"driver-hang {told['call']}"):
                await node.admit("another", GPU, 1)
            running.node.recover(1)
            lists = node.resources[GPU].lists
            await node.until(lambda k: k.resources[GPU].lists > lists and k.healthy(GPU) == 2)
            assert running.pids()["monitor"] == monitor

    asyncio.run(story())
