"""A driver that hangs or is slow while a monitor begins, through the C library."""

import asyncio
from pathlib import Path

import msgspec

from health.ledger import FILE
from proto.monitor import MonitorSettings
from proto.paths import Paths
from tests.fakes import nvml_library
from tests.fakes.monitor import Monitor, monitor
from tests.fakes.service import kubelet, service, until
from tests.fakes.toolkit import Host
from tests.process.test_one_bad_gpu import (
    BAD,
    GPU,
    UUIDS,
    all_watched,
    environment,
    reasons,
    started,
    unhealthy,
)

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


def test_a_wait_for_events_that_hung_before_the_start(folder: Path, library: Path) -> None:
    """Checks of the GPU succeed, so only a reason that was kept can say that its events hang. The
    reason ends when they come again, and no later monitor has it.
    """
    register = "nvmlDeviceRegisterEvents"
    hanging = environment(folder, library, HANG=f"{BAD}:{register}")
    settings = MonitorSettings(
        Paths(f"{folder}/health.ipc", "", "", ""),
        "health.binding",
        "/",
        poll_interval=0.1,
        hang_after=0.5,
        state_folder=f"{folder}/state",
    )
    ledger = folder / "state" / FILE
    patient = msgspec.structs.replace(settings, hang_after=60.0)

    def becomes(running: Monitor, *expected: str) -> None:
        wanted = list(expected)
        assert any(reasons(running.state(), BAD) == wanted for _ in range(60))  # one each second

    with monitor(settings, hanging) as running:
        becomes(running, f"driver-hang {register}")
        # It is published before it is written.
        asyncio.run(until(lambda: register in ledger.read_text(), "the call in the ledger"))
    with monitor(patient, hanging) as running:
        state = running.state()
        assert {place: reasons(state, place) for place in range(8) if reasons(state, place)} == {
            BAD: [f"driver-hang {register}"]
        }
        nvml_library.Steering(folder).answer(BAD)
        becomes(running)
        asyncio.run(until(lambda: register not in ledger.read_text(), "a ledger without it"))
    with monitor(patient, environment(folder, library)) as running:
        assert reasons(running.state(), BAD) == []


def test_a_tool_that_hangs_with_a_gpu_takes_no_other(folder: Path, library: Path) -> None:
    """Nvidia-ctk asks all GPUs: while it hangs, a new monitor uses the specifications there are."""

    async def story() -> None:
        host = Host(folder)
        # A monitor that starts slowly on a busy machine is not silent for that long.
        (folder / "config.yaml").write_text("health: {staleAfter: 60s}\n")
        options = (
            f"--cdi-spec-dir={host.specs}",
            "--device-list-strategy=cdi-cri",
            f"--config-file={folder}/config.yaml",
        )
        tool = host.environment | {"STANDIN_CTK_DEVICES": ",".join(UUIDS)}
        well = environment(folder, library) | tool
        hanging = environment(folder, library, HANG=str(BAD)) | tool
        async with kubelet(folder) as node:
            async with service(folder, *options, environment=well) as running:
                await node.until(lambda k: k.healthy(GPU) == 8)
                assert await running.stop() == 0
            hanging["STANDIN_CTK_DOES"] = "hang"
            async with service(folder, *options, environment=hanging) as running:
                await node.until(lambda k: k.healthy(GPU) == 7)
                running.kill("monitor")
                state = await running.publishes(2)
                assert state.inventory.cdi_kinds == ("k8s.device-plugin.nvidia.com/gpu",)
                await node.until(lambda k: unhealthy(k) == {UUIDS[BAD]})
                assert running.count("device listed as Unhealthy") == 0

    asyncio.run(story())
