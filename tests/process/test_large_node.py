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
