"""A node much larger than any that is sold."""

import asyncio
from pathlib import Path

from tests.fakes.service import kubelet, service


def test_the_largest_node_is_served(folder: Path) -> None:
    """64 GPUs with seven MIG instances each, all connected by NVLink, fit into every message of the
    service.
    """
    pairs = [(a, b) for a in range(64) for b in range(a + 1, 64)]
    node = {
        "gpus": [{"mig": ["1g.10gb"] * 7}] * 64,
        "links": [{"between": pair, "path": "NODE", "nvlinks": 18} for pair in pairs],
    }

    async def story() -> None:
        async with kubelet(folder) as stand_in, service(folder, node=node) as running:
            await stand_in.until(lambda k: k.healthy("nvidia.com/gpu") == 64)
            state = await running.publishes(epoch=1)

            assert len(state.health) == 64 * 8
            assert {link.nvlinks for link in state.inventory.links} == {18}
            assert len(state.inventory.links) == len(pairs)

    asyncio.run(story())


def test_a_long_plan_reaches_a_worker_that_runs(folder: Path) -> None:
    """The new plan of 448 MIG instances, with paths of 4 KB, is sent to the worker that runs."""
    root = "/" + "/".join(["d" * 200] * 20)
    flags = f"flags: {{migStrategy: mixed, nvidiaDevRoot: {root}}}\n"
    shares = "sharing: {timeSlicing: {resources: [{name: mig-1g.10gb, replicas: 3}]}}\n"
    path = folder / "config.yaml"
    path.write_text(flags)
    node = {"gpus": [{"mig": ["1g.10gb"] * 7}] * 64}
    name = "nvidia.com/mig-1g.10gb"

    async def story() -> None:
        options = (f"--config-file={path}",)
        async with kubelet(folder) as stand_in, service(folder, *options, node=node) as running:
            await stand_in.until(lambda k: k.healthy(name) == 448)
            pid = running.pids()[f"worker {name}"]
            path.with_suffix(".new").write_text(flags + shares)
            path.with_suffix(".new").replace(path)
            await stand_in.until(lambda k: k.healthy(name) == 3 * 448)
            assert running.pids()[f"worker {name}"] == pid
            assert stand_in.registrations == 1

    asyncio.run(story())
