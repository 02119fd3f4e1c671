"""The driver does not return from a call: the log names the call, then the monitor is restarted."""

import asyncio
from pathlib import Path

import pytest

from simulator.kubelet import AdmissionError
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}
CONFIGURATION = "health: {hangAfter: 2s, pollInterval: 500ms}\n"


def test_a_hang_is_logged_before_the_monitor_is_killed(folder: Path) -> None:
    """The log names the call and the GPU, Allocate fails with this reason, and all devices are
    Healthy after the driver recovers.
    """

    async def story() -> None:
        (folder / "config.yaml").write_text(CONFIGURATION)
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            monitor = running.pids()["monitor"]
            running.node.hang(1)
            told = await running.logged("the driver hangs", child="monitor")
            await node.until(lambda k: k.healthy(GPU) == 0)
            node.resources[GPU].devices = dict.fromkeys(node.resources[GPU].devices, "Healthy")
            with pytest.raises(AdmissionError, match="driver-hang nvmlDeviceGetMemoryInfo GPU-"):
                await node.admit("pod", GPU, 1)
            await running.restarted("monitor", monitor)
            messages = [entry["message"] for entry in running.entries]
            running.node.recover(1)
            await node.until(lambda k: k.resources[GPU].lists >= 3 and k.healthy(GPU) == 2)

            assert told["call"].startswith("nvmlDeviceGetMemoryInfo GPU-")
            assert messages.index("the driver hangs") < messages.index("killing a process")

    asyncio.run(story())
