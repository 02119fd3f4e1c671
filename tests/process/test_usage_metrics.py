"""The metrics and the status tell who uses how much of each GPU, on a simulated node."""

import asyncio
import json
from pathlib import Path
from typing import Any

from supervisor.exporter.usage_lookup import SWITCHED_OFF
from tests.fakes.onlooker import drill, simulate
from tests.fakes.service import Samples, Service, until

MIB = 1 << 20
QUICK = "health: {pollInterval: 200ms}\nusage: {interval: 1s}\n"


def values(samples: Samples, name: str, **labels: str) -> list[float]:
    """Return the values of the metric's series that have these labels."""
    full, wanted = f"gpu_sharing_{name}", labels.items()
    return [value for (n, has), value in samples.items() if n == full and wanted <= has]


async def usages(running: Service) -> list[dict[str, Any]]:
    """Return the usage of each GPU in the status that is sampled."""
    _, text = await running.get("/status")
    return [gpu["usage"] for gpu in json.loads(text)["gpus"] or () if gpu["usage"]]


def option(folder: Path) -> str:
    """Write the configuration file, and return the option that names it."""
    (folder / "config.yaml").write_text(QUICK)
    return f"--config-file={folder}/config.yaml"


def test_who_uses_what(folder: Path) -> None:
    """A pod has its usage and its share; the host and a pod that holds nothing are told apart."""

    async def story() -> None:
        async with simulate(option(folder)) as seen:
            runtime = Path((await seen.line("try")).rpartition("--runtime-dir ")[2])
            running = Service(runtime, seen.process)
            pod = {"namespace": "simulated", "pod": "nvidia.com-gpu-pod-1", "container": "main"}
            usage = ["usage", "--gpu=7", f"--runtime-dir={runtime}"]
            assert await drill(*usage, "--pod=ml/stray", "--memory=100", "--utilization=42") == 0
            assert await drill(*usage, "--host", "--memory=300", "--utilization=3") == 0
            stray = {"namespace": "ml", "pod": "stray", "container": "main"}
            samples: Samples = {}

            async def is_shown() -> bool:
                samples.clear()
                samples.update(await running.samples())
                return bool(
                    values(samples, "unallocated_memory_used_bytes", **stray) == [100 * MIB]
                    and 300 * MIB in values(samples, "host_memory_used_bytes")
                    and any(values(samples, "container_memory_used_bytes", **pod))
                )

            await until(is_shown, "all users are shown")
            assert not values(samples, "container_memory_used_bytes", **stray)
            (used,) = values(samples, "container_memory_used_bytes", **pod)
            (share,) = values(samples, "container_memory_share_bytes", **pod)
            (ratio,) = values(samples, "container_utilization_ratio", **pod)
            assert 0 < used < share
            assert 0 < ratio <= 1
            assert values(samples, "usage_attributed") == [1.0]
            kinds = [{h["kind"] for h in usage["holders"]} for usage in await usages(running)]
            assert {"container"} in kinds
            assert {"host", "unallocated"} <= kinds[7]

    asyncio.run(story())


def test_without_pod_usage(folder: Path) -> None:
    """With --pod-usage=false the GPUs have their usage, and the status says why no pod has."""

    async def story() -> None:
        async with simulate(option(folder), "--pod-usage=false") as seen:
            runtime = Path((await seen.line("try")).rpartition("--runtime-dir ")[2])
            running = Service(runtime, seen.process)

            async def is_shown() -> bool:
                return bool(values(await running.samples(), "device_memory_used_bytes"))

            await until(is_shown, "the GPUs have their usage")
            _, text = await running.get("/status")
            assert json.loads(text)["usage"]["problem"] == SWITCHED_OFF
            samples = await running.samples()
            assert values(samples, "usage_attributed") == [0.0]
            assert not values(samples, "container_memory_used_bytes")

    asyncio.run(story())
