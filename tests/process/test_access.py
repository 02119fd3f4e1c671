"""The service loses access to the driver or to the GPUs' device nodes, and gets it back."""

import asyncio
from pathlib import Path

import pytest

from simulator.kubelet import AdmissionError
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}, {}]}
CONFIGURATION = "health: {pollInterval: 200ms, hangAfter: 5s}\n"


def test_lost_access_is_not_reported_as_broken_gpus(folder: Path) -> None:
    """When all GPUs become inaccessible at once, the supervisor restarts the monitor and all
    devices are Unhealthy until access returns. No GPU is reported as broken.
    """

    async def story() -> None:
        (folder / "config.yaml").write_text(CONFIGURATION)
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.ready()
            running.node.deny(denied=True)
            await running.logged("restarting the health monitor: it lost access to all GPUs")
            told = await running.logged("process is not ready")
            await node.until(lambda k: k.healthy(GPU) == 0)
            node.resources[GPU].devices = dict.fromkeys(node.resources[GPU].devices, "Healthy")
            with pytest.raises(AdmissionError, match="no-access cannot call nvmlInit"):
                await node.admit("pod", GPU, 1)
            running.node.deny(denied=False)
            await node.until(lambda k: k.resources[GPU].lists >= 3 and k.healthy(GPU) == 3)

            assert told["reason"].endswith("allow access to /dev/nvidia*")
            assert running.count("device is unhealthy") == 0

    asyncio.run(story())


def test_one_lost_gpu_is_not_lost_access(folder: Path) -> None:
    """When one GPU is lost, the other GPUs stay Healthy and the monitor is not restarted."""

    async def story() -> None:
        (folder / "config.yaml").write_text(CONFIGURATION)
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            for pod in range(2):
                await node.admit(f"pod {pod}", GPU, 1)
            running.node.lose(2)
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert running.count("restarting the health monitor: it lost access to all GPUs") == 0
            assert running.count("process is not ready") == 0

    asyncio.run(story())
