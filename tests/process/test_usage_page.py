"""The page of a running service shows usage as it is sampled."""

import asyncio
import re
from pathlib import Path

from tests.fakes.onlooker import simulate
from tests.fakes.service import Service, until
from tests.process.test_usage_metrics import option


def test_usage_on_the_page(folder: Path) -> None:
    """The page draws what the monitor samples of each GPU, and names the pods that use it."""

    async def story() -> None:
        async with simulate(option(folder)) as seen:
            runtime = Path((await seen.line("try")).rpartition("--runtime-dir ")[2])
            running = Service(runtime, seen.process)
            page = ""

            async def is_shown() -> bool:
                nonlocal page
                _, page = await running.get("/")
                return "nvidia.com-gpu-pod-1" in page.partition("Who uses what")[2]

            await until(is_shown, "the pod is in the table")
            lines = re.findall(r'<path d="([^"]*)" class="line">', page)
            assert len(lines) == 8
            assert all(line.startswith("M") for line in lines)

    asyncio.run(story())
