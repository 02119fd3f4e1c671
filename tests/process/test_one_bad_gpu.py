"""A GPU that hangs, is slow or fails takes no other GPU along, through the C library."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import zmq

from proto.bus import health_subscriber, receive
from proto.inbox import Inbox
from proto.messages import NodeState
from proto.monitor import MonitorSettings
from proto.paths import Paths
from simulator.kubelet import AdmissionError, Kubelet
from tests.fakes import nvml_library
from tests.fakes.figures import FIGURES, show, within
from tests.fakes.monitor import monitor
from tests.fakes.service import Service, kubelet, open_files, service, until

GPU = "nvidia.com/gpu"
UUIDS = [f"GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1{place:03d}" for place in range(8)]
BAD = 3
QUICK = "health: {hangAfter: 3s, pollInterval: 200ms, rescanInterval: 400ms}\n"
HANG_AFTER = 3.0
UNCHECKED = "health: {hangAfter: 3s, pollInterval: 30s, staleAfter: 60s}\nusage: {interval: 1s}\n"


def environment(folder: Path, library: Path, **conditions: str) -> dict[str, str]:
    """Return the environment of a process that uses the stand-in library with eight GPUs."""
    settings = {f"STANDIN_NVML_{name}": value for name, value in conditions.items()}
    return {
        "LD_LIBRARY_PATH": str(library.parent),
        "STANDIN_NVML_DIR": str(folder),
        "STANDIN_NVML_GPUS": "8",
        **settings,
    }


@contextlib.asynccontextmanager
async def started(
    folder: Path, library: Path, configuration: str = QUICK, **conditions: str
) -> AsyncIterator[Service]:
    """Run the service on eight GPUs of the stand-in library under these conditions."""
    (folder / "config.yaml").write_text(configuration)
    options = (f"--config-file={folder}/config.yaml",)
    variables = environment(folder, library, **conditions)
    async with service(folder, *options, environment=variables) as running:
        yield running


def unhealthy(node: Kubelet) -> set[str]:
    """Return the devices that are Unhealthy at the kubelet."""
    return {name for name, health in node.resources[GPU].devices.items() if health != "Healthy"}


def reasons(state: NodeState, place: int) -> list[str]:
    """Return the reasons of the GPU at *place*."""
    return [
        str(why) for device in state.health if device.uuid == UUIDS[place] for why in device.reasons
    ]


def seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def all_watched(node: Kubelet, running: Service) -> None:
    """Wait until all eight GPUs are Healthy and watched for Xids."""
    await node.until(lambda k: k.healthy(GPU) == 8)
    await running.logged("watching GPUs for Xid events", gpus=8)


def test_a_gpu_that_hangs_takes_no_other(folder: Path, library: Path) -> None:
    """Each call on one GPU hangs: it is Unhealthy and named; the others are watched and allocated.

    When it answers again, it is Healthy in the same monitor.
    """

    async def story() -> None:
        async with kubelet(folder) as node, started(folder, library) as running:
            await all_watched(node, running)
            monitor, lists = running.pids()["monitor"], node.resources[GPU].lists
            steering = nvml_library.Steering(folder)
            begun = time.perf_counter()
            steering.hang(BAD)
            told = await running.logged("the driver hangs", index=BAD)
            await node.until(lambda k: k.healthy(GPU) == 7)
            show("a GPU that hangs is Unhealthy", [(time.perf_counter() - begun) * 1000])
            assert (told["uuid"], unhealthy(node)) == (UUIDS[BAD], {UUIDS[BAD]})
            assert node.resources[GPU].lists == lists + 1
            state = await running.publishes(1)
            assert f"driver-hang {told['call']}" in reasons(state, BAD)
            hanging = {"uuid": UUIDS[BAD], "index": str(BAD), "call": told["call"]}

            async def is_told() -> bool:
                samples = await running.samples()
                key = ("gpu_sharing_nvml_hanging_call_seconds", frozenset(hanging.items()))
                return samples.get(key, 0.0) >= HANG_AFTER

            await until(is_told, "a metric of the call that hangs")
            assert (await running.get("/livez"))[0] == (await running.get("/readyz"))[0] == 200
            for number in range(7):
                await node.admit(f"pod-{number}", GPU, 1)
            with pytest.raises(AdmissionError):
                await node.admit("pod-7", GPU, 1)
            steering.answer(BAD)
            await node.until(lambda k: k.healthy(GPU) == 8)
            await running.logged("the driver answers again", index=BAD)
            assert running.pids()["monitor"] == monitor

    asyncio.run(story())


async def _regular_state(states: Inbox) -> None:
    """Wait for a state that no change has caused: the next one is a second away."""
    waited = 0.0
    while waited < 0.5:
        begun = time.perf_counter()
        await receive(states)
        waited = time.perf_counter() - begun


async def _awaited(step: Awaitable[object]) -> object:
    return await step


def test_xids_of_the_others_arrive_while_one_hangs(folder: Path, library: Path) -> None:
    """With one of eight GPUs hanging, an Xid of another is in the kubelet's list at once: it waits
    neither for a check nor for the state of the next second.
    """

    async def story() -> None:
        async with kubelet(folder) as node, started(folder, library, UNCHECKED) as running:
            await all_watched(node, running)
            steering = nvml_library.Steering(folder)
            steering.hang(BAD)
            await node.until(lambda k: k.healthy(GPU) == 7)
            others = iter(place for place in range(8) if place != BAD)
            loop = asyncio.get_running_loop()

            def do(step: Awaitable[object]) -> object:
                return asyncio.run_coroutine_threadsafe(_awaited(step), loop).result()

            def an_xid_arrives() -> float:
                place = next(others)
                do(_regular_state(states))
                begun = time.perf_counter()
                steering.xid(place, 79)
                do(node.until(lambda _: UUIDS[place] in unhealthy(node)))
                return (time.perf_counter() - begun) * 1000

            states = health_subscriber(zmq.Context.instance(), f"{folder}/health.ipc")
            what = "an Xid while another GPU hangs"
            # It takes 5 ms; the limit is what no other work on the machine can make of it.
            with contextlib.closing(states):
                await asyncio.to_thread(within, 500, what, an_xid_arrives)

    asyncio.run(story())


def test_hangs_cost_nothing_that_stays(folder: Path, library: Path) -> None:
    """Threads, descriptors and memory are the same after fifty times of hanging and returning."""
    settings = MonitorSettings(
        Paths(f"{folder}/health.ipc", f"{folder}/telemetry.ipc", "", str(folder)),
        binding="health.binding",
        binding_argument="/",
        poll_interval=0.02,
        hang_after=0.1,
        state_folder=f"{folder}/state",
    )
    steering = nvml_library.Steering(folder)
    with monitor(settings, environment(folder, library)) as running:

        def becomes(*expected: str) -> None:
            while [why.split()[0] for why in reasons(running.state(), BAD)] != list(expected):
                pass

        pid, seen = running.process.pid, []
        becomes()
        for _ in range(50):
            steering.hang(BAD)
            becomes("driver-hang")
            steering.answer(BAD)
            becomes()
            seen.append((running.threads(), running.resident()))
            if len(seen) == 10:
                files = min(len(open_files(pid)) for _ in range(20))
        # A file that the monitor just reads or writes is open for a moment, or for longer on a
        # machine that is busy with others.
        asyncio.run(until(lambda: len(open_files(pid)) <= files, f"at most {files} descriptors"))
    assert {count for count, _ in seen} == {21}  # two for each GPU, and five for the process
    assert seen[-1][1] - seen[9][1] < 1024  # KiB
    FIGURES.append(f"monitor after fifty hangs: {seen[-1][0]} threads, {seen[-1][1]} KiB")


def test_a_gpu_that_hangs_from_the_start_is_told_by_its_index(folder: Path, library: Path) -> None:
    """Nobody knows the GPU yet: the others are served, and the status names its index."""

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            started(folder, library, HANG=str(BAD)) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 7)
            assert unhealthy(node) == set()
            await running.logged("the driver hangs", index=BAD, uuid="unknown")
            state = await running.shows_state(
                1, lambda state: "does not return" in state.inventory.failed[0].error
            )
            assert [gpu.index for gpu in state.inventory.failed] == [BAD]
            monitor = running.pids()["monitor"]
            nvml_library.Steering(folder).answer(BAD)
            await node.until(lambda k: k.healthy(GPU) == 8)
            assert running.pids()["monitor"] == monitor

    asyncio.run(story())


def test_a_gpu_that_hangs_from_the_start_keeps_its_place(folder: Path, library: Path) -> None:
    """The ledger knows the GPU: it is listed as Unhealthy, and is Healthy when it answers."""

    async def story() -> None:
        async with kubelet(folder) as node:
            async with started(folder, library) as running:
                await all_watched(node, running)
                assert await running.stop() == 0
            async with started(folder, library, HANG=str(BAD)) as running:
                await node.until(lambda k: k.healthy(GPU) == 7)
                assert unhealthy(node) == {UUIDS[BAD]}
                state = await running.shows_state(
                    1, lambda state: any("driver-hang" in why for why in reasons(state, BAD))
                )
                assert state.inventory.failed == ()
                monitor = running.pids()["monitor"]
                nvml_library.Steering(folder).answer(BAD)
                await node.until(lambda k: k.healthy(GPU) == 8)
                assert running.pids()["monitor"] == monitor

    asyncio.run(story())


def test_a_gpu_that_is_enumerated_in_part_replaces_no_monitor(folder: Path, library: Path) -> None:
    """It gives a handle and fails a later query: it is told as failed, and tried again in place."""

    async def story() -> None:
        failing = f"{BAD}:nvmlDeviceGetName:999"
        async with (
            kubelet(folder) as node,
            started(folder, library, FAIL=failing) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 7)
            await running.logged("cannot enumerate a GPU", index=BAD)
            monitor = running.pids()["monitor"]

            def tries(state: NodeState) -> bool:
                calls = {call.call: call for call in state.calls}
                return calls["nvmlDeviceGetName"].errors.get(999, 0) >= 5

            state = await running.shows_state(1, tries)
            assert (state.epoch, [gpu.index for gpu in state.inventory.failed]) == (1, [BAD])
            assert running.count("cannot enumerate a GPU") == 1
            nvml_library.Steering(folder).answer(BAD)
            await node.until(lambda k: k.healthy(GPU) == 8)
            await running.logged("a GPU that failed before can be enumerated now", index=BAD)
            assert running.pids()["monitor"] == monitor

    asyncio.run(story())


def test_a_driver_that_does_not_open_keeps_all_gpus_listed(folder: Path, library: Path) -> None:
    """NvmlInit hangs: the GPUs of the ledger are Unhealthy, and new monitors try again."""

    async def story() -> None:
        async with kubelet(folder) as node:
            async with started(folder, library) as running:
                await all_watched(node, running)
                assert await running.stop() == 0
            async with started(folder, library, HANG_INIT="1") as running:
                begun = time.perf_counter()
                told = await running.logged("the driver hangs")
                show("a driver that does not open is told", [(time.perf_counter() - begun) * 1000])
                assert told["call"] == "nvmlInit"
                await node.until(lambda k: unhealthy(k) == set(UUIDS))
                state = await running.publishes(1)
                assert reasons(state, BAD) == ["driver-hang nvmlInit"]
                await running.shows_state(1, lambda state: state.hanging[0].seconds > 5)
                assert seconds(running.pids()["monitor"]) < 2.0  # it waits, and does not spin
                await running.logged("process is not ready", child="monitor")
                await running.restarted("monitor", running.pids()["monitor"])
                assert unhealthy(node) == set(UUIDS)

    asyncio.run(story())
