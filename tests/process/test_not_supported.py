"""What a GPU or its driver does not support is no fault, through nvidia-ml-py and the C library."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes import nvml_library
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"


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
            await running.ready()
            lacking = {0, 1} if gpu == "all" else {int(gpu)}
            expected = [index not in lacking for index in range(2)]
            state = await running.shows_state(
                1, lambda state: [gpu.events for gpu in state.inventory.gpus] == expected
            )
            for index, uuid in enumerate(nvml_library.GPU_UUIDS):
                labels = {"monitoring": "polling" if index in lacking else "events"}
                samples = await running.samples()
                (info,) = (
                    dict(labels)
                    for name, labels in samples
                    if name == "gpu_sharing_device_info" and ("uuid", uuid) in labels
                )
                assert info["monitoring"] == labels["monitoring"]
            # Checks go on, and find nothing.
            state = await running.publishes(1, state.sequence + 3)
            assert all(not device.reasons for device in state.health)
            assert node.resources[GPU].lists == 1
            assert [e for e in running.entries if e["level"] in {"warning", "error"}] == []

    asyncio.run(story())
