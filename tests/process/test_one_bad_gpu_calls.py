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


def test_one_gpu_that_fails_while_the_other_hangs_is_no_loss_of_access(
    folder: Path, library: Path
) -> None:
    """What one GPU says is not enough to tell that the process lost its device nodes."""

    async def story() -> None:
        async with kubelet(folder) as node, started(folder, library, GPUS="2") as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.logged("watching GPUs for Xid events", gpus=2)
            steering = nvml_library.Steering(folder)
            steering.hang(0)
            await node.until(lambda k: unhealthy(k) == {UUIDS[0]})
            steering.fail(1, "nvmlDeviceGetMemoryInfo", nvml_library.UNKNOWN)
            await node.until(lambda k: unhealthy(k) == set(UUIDS[:2]))
            state = await running.publishes(1)
            assert state.epoch == 1
            assert [why.split()[0] for why in reasons(state, 1)] == ["unreadable"]
            steering.answer(0)
            steering.answer(1)
            await node.until(lambda k: k.healthy(GPU) == 2)

    asyncio.run(story())


def test_one_gpu_that_fails_while_the_other_is_lost_is_no_loss_of_access(
    folder: Path, library: Path
) -> None:
    """A driver that says that a GPU is lost has not refused this process its device node."""

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            started(folder, library, GPUS="2", LOST="0") as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 1)
            steering = nvml_library.Steering(folder)
            steering.fail(1, "nvmlDeviceGetMemoryInfo", nvml_library.UNKNOWN)
            await node.until(lambda k: unhealthy(k) == {UUIDS[1]})
            assert (await running.publishes(1)).epoch == 1

    asyncio.run(story())


def test_a_gpu_whose_text_is_garbage_takes_no_other(folder: Path, library: Path) -> None:
    """A board with a broken memory for its name makes the binding fail: only that GPU fails."""

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            started(folder, library, GARBLED=str(BAD)) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 7)
            told = await running.logged("cannot enumerate a GPU", index=BAD)
            assert "nvmlDeviceGetName" in told["error"]
            state = await running.publishes(1)
            assert (state.epoch, [gpu.index for gpu in state.inventory.failed]) == (1, [BAD])

    asyncio.run(story())
