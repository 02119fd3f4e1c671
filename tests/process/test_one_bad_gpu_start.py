"""A driver that hangs or is slow while a monitor begins, through the C library."""

import asyncio
from pathlib import Path

from tests.fakes import nvml_library
from tests.fakes.service import kubelet
from tests.process.test_one_bad_gpu import BAD, UUIDS, all_watched, reasons, started, unhealthy

COUNT = "nvmlDeviceGetCount"


def test_the_call_in_which_a_driver_hangs_is_told_once(folder: Path, library: Path) -> None:
    """Not only nvmlInit can hang: each reason and message names the call, over all monitors."""

    async def story() -> None:
        async with kubelet(folder) as node:
            async with started(folder, library) as running:
                await all_watched(node, running)
                assert await running.stop() == 0
            async with started(folder, library, HANG=f"driver:{COUNT}") as running:
                await running.logged("the driver hangs", call=COUNT)
                told = await running.logged("process is not ready", child="monitor")
                assert COUNT in told["reason"]
                await running.shows_state(2, lambda state: bool(state.hanging))
                state = await running.publishes(2)
                assert reasons(state, BAD) == [f"driver-hang {COUNT}"]
                assert unhealthy(node) == set(UUIDS)
                assert running.count("reasons of an Unhealthy device changed") == 0

    asyncio.run(story())


def test_a_driver_that_opens_late_is_used(folder: Path, library: Path) -> None:
    """It answers after it was told as hanging, and its GPUs are slow: this monitor goes on."""

    async def story() -> None:
        async with kubelet(folder) as node:
            async with started(folder, library) as running:
                await all_watched(node, running)
                assert await running.stop() == 0
            slow = {"HANG": f"driver:{COUNT}", "SLOW": "all:100"}
            async with started(folder, library, **slow) as running:
                # Two seconds before a monitor that waits in vain ends.
                await running.shows_state(
                    1, lambda state: any(h.seconds > 4 for h in state.hanging)
                )
                nvml_library.Steering(folder).answer_driver()
                await all_watched(node, running)
                assert (await running.publishes(1)).epoch == 1

    asyncio.run(story())
