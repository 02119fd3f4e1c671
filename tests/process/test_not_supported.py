"""What a GPU or its driver does not support is no fault, through nvidia-ml-py and the C library."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes import nvml_library
from tests.fakes.service import Service, kubelet, service, until

GPU = "nvidia.com/gpu"
INFO = "gpu_sharing_device_info"
UUIDS = nvml_library.GPU_UUIDS


async def monitoring(running: Service) -> dict[str, str]:
    """Return how each GPU is monitored, as the metrics show it."""
    infos = (dict(labels) for name, labels in await running.samples() if name == INFO)
    return {info["uuid"]: info["monitoring"] for info in infos}


@pytest.mark.parametrize("gpu", ["0", "1", "all"])
def test_a_gpu_without_any_optional_call_is_served(folder: Path, library: Path, gpu: str) -> None:
    """A GPU that supports no optional call is Healthy, shown as polled, and nothing is logged."""

    async def story() -> None:
        environment = {
            "LD_LIBRARY_PATH": str(library.parent),
            "STANDIN_NVML_DIR": str(folder),
            "STANDIN_NVML_WITHOUT": gpu,
        }
        (folder / "config.yaml").write_text("version: v1\nhealth: {pollInterval: 200ms}\n")
        options = (f"--config-file={folder}/config.yaml",)
        async with (
            kubelet(folder) as node,
            service(folder, *options, environment=environment) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            lacking = {0, 1} if gpu == "all" else {int(gpu)}
            expected = [index not in lacking for index in range(2)]
            state = await running.shows_state(
                1, lambda state: [gpu.events for gpu in state.inventory.gpus] == expected
            )
            kinds = [("events", "polling")[index in lacking] for index in range(2)]

            async def is_shown() -> bool:
                return await monitoring(running) == dict(zip(UUIDS, kinds, strict=True))

            await until(is_shown, f"GPUs in the metrics with monitoring {kinds}")
            # Checks go on, and find nothing.
            state = await running.publishes(1, state.sequence + 3)
            assert all(not device.reasons for device in state.health)
            assert node.resources[GPU].lists == 1
            assert [e for e in running.entries if e["level"] in {"warning", "error"}] == []

    asyncio.run(story())
