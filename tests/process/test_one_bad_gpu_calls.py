"""Only one call of a GPU or of the driver hangs: it is named, and the other GPUs go on."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes import nvml_library
from tests.fakes.service import kubelet
from tests.process.test_one_bad_gpu import (
    BAD,
    GPU,
    UUIDS,
    reasons,
    started,
    unhealthy,
)

OTHER = 5


@pytest.mark.parametrize("call", ["nvmlDeviceRegisterEvents", "nvmlEventSetWait"])
def test_only_the_watch_of_a_gpu_hangs(folder: Path, library: Path, call: str) -> None:
    """The GPU is Unhealthy while the call hangs, though its checks pass; Xids of others arrive."""

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            started(folder, library, HANG=f"{BAD}:{call}") as running,
        ):
            await running.logged("the driver hangs", call=call, index=BAD, uuid=UUIDS[BAD])
            await node.until(lambda k: unhealthy(k) == {UUIDS[BAD]})
            state = await running.publishes(1)
            assert reasons(state, BAD) == [f"driver-hang {call}"]
            assert [(hang.call, hang.index) for hang in state.hanging] == [(call, BAD)]
            steering = nvml_library.Steering(folder)
            steering.xid(OTHER, 79)
            await node.until(lambda k: unhealthy(k) == {UUIDS[BAD], UUIDS[OTHER]})
            steering.answer(BAD)
            await node.until(lambda k: unhealthy(k) == {UUIDS[OTHER]})
            await running.logged("watching GPUs for Xid events", gpus=8)
            assert (await running.publishes(1)).epoch == 1

    asyncio.run(story())


def test_a_topology_that_hangs_is_no_fault_of_a_gpu(folder: Path, library: Path) -> None:
    """All GPUs are Healthy without it; the call is named."""

    async def story() -> None:
        call = "nvmlDeviceGetTopologyCommonAncestor"
        async with (
            kubelet(folder) as node,
            started(folder, library, HANG=f"{BAD}:{call}") as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 8)
            state = await running.shows_state(1, lambda state: bool(state.hanging))
            assert [(hang.call, hang.index) for hang in state.hanging] == [(call, None)]
            assert unhealthy(node) == set()

    asyncio.run(story())
