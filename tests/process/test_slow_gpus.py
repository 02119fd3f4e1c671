"""Slow GPUs are no fault, through the C library: a call that returns is a sign of life."""

import asyncio
from pathlib import Path

import pytest

from tests.fakes import nvml_library
from tests.fakes.service import kubelet
from tests.process.test_one_bad_gpu import BAD, GPU, UUIDS, all_watched, started

PATIENT = "health: {pollInterval: 200ms}\n"
SHORT = "health: {pollInterval: 200ms, staleAfter: 3s}\n"
FEW_CALLS = {"OLD": "1"}
"""A driver without NVLinks and MIG, of which a check asks less."""


@pytest.mark.parametrize(("slow", "driver"), [(f"{BAD}:400", FEW_CALLS), ("all:40", {})])
def test_slow_gpus_are_healthy(
    folder: Path, library: Path, slow: str, driver: dict[str, str]
) -> None:
    """Every call returns, so nothing is Unhealthy; a problem and a metric tell of the slowness."""

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            started(folder, library, PATIENT, SLOW=slow, **driver) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 8)
            monitor = running.pids()["monitor"]
            told = await running.logged("the driver answers slowly for a GPU", index=BAD)
            assert told["seconds"] > 0.5
            await running.shows("gpu_sharing_node_problem", 1.0, problem="slow-driver")
            samples = await running.samples()
            duration = ("gpu_sharing_look_duration_seconds", frozenset({("uuid", UUIDS[BAD])}))
            assert samples[duration] > 0.5
            await running.ready()
            assert node.resources[GPU].lists == 1
            assert running.pids()["monitor"] == monitor
            nvml_library.Steering(folder).answer(BAD)
            if slow != "all:40":
                await running.logged("the driver answers in time again", index=BAD)

    asyncio.run(story())


def test_a_restart_with_a_slow_gpu_changes_no_health(folder: Path, library: Path) -> None:
    """Its enumeration takes longer than `staleAfter`: nothing is Unhealthy for it meanwhile."""

    async def story() -> None:
        async with kubelet(folder) as node:
            async with started(folder, library, SHORT, **FEW_CALLS) as running:
                await all_watched(node, running)
                assert await running.stop() == 0
            async with started(folder, library, SHORT, SLOW=f"{BAD}:600", **FEW_CALLS) as running:
                await node.until(lambda k: k.registrations == 2 and k.resources[GPU].lists > 0)
                state = await running.publishes(1)
                assert [device.reasons for device in state.health] == [()] * 8
                monitor = running.pids()["monitor"]
                await running.logged("watching GPUs for Xid events", gpus=8)
                state = await running.publishes(1, state.sequence + 1)
                assert [device.reasons for device in state.health] == [()] * 8
                assert (node.resources[GPU].lists, node.healthy(GPU)) == (1, 8)
                assert running.pids()["monitor"] == monitor
                assert [e for e in running.entries if e["level"] == "error"] == []

    asyncio.run(story())
