"""NVLinks that are down stay a fault over restarts, through nvidia-ml-py and the C library."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proto.messages import NodeState
from proto.requests import Quiesce, Resume
from simulator.kubelet import Kubelet
from supervisor.commands.ask import ask
from tests.fakes import nvml_library
from tests.fakes.service import Service, kubelet, service

GPU = "nvidia.com/gpu"
DOWN = "nvlink-down 1 of 2 links"


@contextlib.asynccontextmanager
async def started(folder: Path, library: Path, **more: str) -> AsyncIterator[Service]:
    """Run the service on two GPUs with two NVLinks each, checked five times a second."""
    (folder / "config.yaml").write_text("version: v1\nhealth: {pollInterval: 200ms}\n")
    environment = {
        "LD_LIBRARY_PATH": str(library.parent),
        "STANDIN_NVML_DIR": str(folder),
        "STANDIN_NVML_GPUS": "2",
        **more,
    }
    options = (f"--config-file={folder}/config.yaml",)
    async with service(folder, *options, environment=environment) as running:
        yield running


async def breaks(node: Kubelet, running: Service, folder: Path, up: int) -> None:
    """Let an NVLink of the first GPU go down, and wait until the kubelet knows."""
    await node.until(lambda k: k.healthy(GPU) == 2)
    await running.logged("watching GPUs for Xid events")
    nvml_library.Steering(folder).links(0, up)
    await node.until(lambda k: k.healthy(GPU) == 1)


def told(state: NodeState) -> list[str]:
    """Return the reasons of the first GPU."""
    return [str(reason) for reason in state.health[0].reasons]


@pytest.mark.parametrize(("up", "reason"), [(1, DOWN), (-1, "nvlink-down 2 of 2 links")])
def test_links_that_go_down_are_a_fault(folder: Path, library: Path, up: int, reason: str) -> None:
    """A link that is not active any more is down, and so is one that was counted and is silent."""

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            started(folder, library) as running,
        ):
            await breaks(node, running, folder, up)
            assert told(await running.publishes(epoch=1)) == [reason]

    asyncio.run(story())


def test_a_restart_of_the_service_forgets_no_link(folder: Path, library: Path) -> None:
    """The count of this boot comes from the state folder: quiesce, resume and restart keep it."""

    async def story() -> None:
        async with kubelet(folder) as node:
            async with started(folder, library) as running:
                await breaks(node, running, folder, 1)
                assert await running.stop() == 0
            async with started(folder, library, STANDIN_NVML_LINKS="1") as running:
                state = await running.shows_state(1, lambda state: bool(told(state)))
                assert [told(state), state.inventory.gpus[0].nvlinks] == [[DOWN], 2]
                await asyncio.to_thread(ask, folder, Quiesce())
                await asyncio.to_thread(ask, folder, Resume())
                state = await running.shows_state(2, lambda state: bool(told(state)))
                assert told(state) == [DOWN]

    asyncio.run(story())
