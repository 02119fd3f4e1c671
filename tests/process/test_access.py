"""The service loses access to the driver or to the GPUs' device nodes, and gets it back."""

import asyncio
from pathlib import Path

import pytest

from proto.requests import Quiesce, Resume
from simulator.kubelet import AdmissionError
from supervisor.commands.ask import ask
from tests.fakes.service import Service, kubelet, service, until

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}, {}]}
CONFIGURATION = "health: {pollInterval: 200ms, hangAfter: 5s}\n"
EXITS = "health: {pollInterval: 200ms, exitWithoutAccess: %s}\n"
EXIT = "exiting: only a new container can use the GPUs"


async def tried(running: Service, times: int) -> None:
    """Wait until the monitor was started so often; the log must have DEBUG lines."""
    message = "process changed state"
    await running.logged(message, child="monitor", state="starting", starts=times)


async def lives(running: Service) -> bool:
    """Return whether /livez answers 200."""
    return (await running.get("/livez"))[0] == 200


def test_lost_access_is_not_reported_as_broken_gpus(folder: Path) -> None:
    """When all GPUs become inaccessible at once, the supervisor restarts the monitor and all
    devices are Unhealthy until access returns. No GPU is reported as broken.
    """

    async def story() -> None:
        (folder / "config.yaml").write_text(CONFIGURATION)
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.ready()
            running.node.deny(denied=True)
            await running.logged("restarting the health monitor: it lost access to all GPUs")
            told = await running.logged("process is not ready")
            await node.until(lambda k: k.healthy(GPU) == 0)
            node.resources[GPU].devices = dict.fromkeys(node.resources[GPU].devices, "Healthy")
            with pytest.raises(AdmissionError, match="no-access cannot call nvmlInit"):
                await node.admit("pod", GPU, 1)
            running.node.deny(denied=False)
            await node.until(lambda k: k.resources[GPU].lists >= 3 and k.healthy(GPU) == 3)

            assert told["reason"].endswith("allow access to /dev/nvidia*")
            assert running.count("device is unhealthy") == 0

    asyncio.run(story())


def test_lost_access_ends_the_service(folder: Path) -> None:
    """When access stays lost for exitWithoutAccess, /livez fails with the reason, and then the
    service exits with code 1.
    """

    async def story() -> None:
        (folder / "config.yaml").write_text(EXITS % "2s")
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.ready()
            assert await lives(running)
            running.node.deny(denied=True)
            await node.until(lambda k: k.healthy(GPU) == 0)
            answer = ""

            async def is_told() -> bool:
                nonlocal answer
                status, answer = await running.get("/livez")
                return status == 503

            await until(is_told, "failing /livez")
            code = await running.ended()
            told = await running.logged(EXIT, level="error")

            assert "supervisor: exits soon to get a new container: cannot call nvmlInit" in answer
            assert told["reason"].endswith("(NVML error 4); allow access to /dev/nvidia*")
            assert (code, running.count(EXIT)) == (1, 1)

    asyncio.run(story())


def test_access_that_comes_back_in_time_ends_nothing(folder: Path) -> None:
    """When access comes back before exitWithoutAccess is over, the service goes on, and the time
    counts anew at the next loss.
    """

    async def story() -> None:
        (folder / "config.yaml").write_text(EXITS % "2s")
        options = (f"--config-file={folder}/config.yaml", "--log-level=debug")
        async with kubelet(folder) as node, service(folder, *options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.ready()
            running.node.deny(denied=True)
            # All devices are Unhealthy a moment earlier: access given then ends no monitor.
            await running.logged("restarting the health monitor: it lost access to all GPUs")
            await node.until(lambda k: k.healthy(GPU) == 0)
            running.node.deny(denied=False)
            await node.until(lambda k: k.healthy(GPU) == 3)
            # The monitor publishes every second and for each of us: for longer than 2 s.
            state = await running.publishes(epoch=2)
            await running.publishes(state.epoch, state.sequence + 6)
            running.node.deny(denied=True)
            await tried(running, state.epoch + 3)

            assert await lives(running)
            assert running.count(EXIT) == 0

    asyncio.run(story())


def test_a_service_that_never_exits(folder: Path) -> None:
    """With exitWithoutAccess 0, the service tries again and again, and /livez does not fail."""

    async def story() -> None:
        (folder / "config.yaml").write_text(EXITS % "0")
        options = (f"--config-file={folder}/config.yaml", "--log-level=debug")
        async with kubelet(folder) as node, service(folder, *options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.ready()
            running.node.deny(denied=True)
            await node.until(lambda k: k.healthy(GPU) == 0)
            await tried(running, 7)

            assert await lives(running)
            assert running.count(EXIT) == 0

    asyncio.run(story())


def test_maintenance_keeps_the_service_from_exiting(folder: Path) -> None:
    """`quiesce` ends a beginning exit: /livez answers again, and `resume` starts the time anew."""

    async def story() -> None:
        (folder / "config.yaml").write_text(EXITS % "4s")
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.ready()
            running.node.deny(denied=True)

            async def dies() -> bool:
                return (await running.get("/livez"))[0] == 503

            await until(dies, "failing /livez")
            await asyncio.to_thread(ask, folder, Quiesce())
            await until(lambda: lives(running), "/livez that answers")
            await asyncio.to_thread(ask, folder, Resume())
            running.node.deny(denied=False)
            await node.until(lambda k: k.healthy(GPU) == 3)

            assert running.count(EXIT) == 0

    asyncio.run(story())


def test_one_lost_gpu_is_not_lost_access(folder: Path) -> None:
    """When one GPU is lost, the other GPUs stay Healthy and the monitor is not restarted."""

    async def story() -> None:
        (folder / "config.yaml").write_text(CONFIGURATION)
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, options, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            for pod in range(2):
                await node.admit(f"pod {pod}", GPU, 1)
            running.node.lose(2)
            await node.until(lambda k: k.healthy(GPU) == 2)
            assert running.count("restarting the health monitor: it lost access to all GPUs") == 0
            assert running.count("process is not ready") == 0

    asyncio.run(story())
