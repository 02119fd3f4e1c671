"""A free GPU that is in use, with `health.occupied: unhealthy`, on a simulated node."""

import asyncio
from pathlib import Path

from proto.messages import NodeState, UsageState
from proto.reasons import Reason, ReasonKind
from supervisor.exporter.occupied import NEEDED
from tests.fakes.onlooker import drill
from tests.fakes.service import Service, kubelet, service

GPU = "nvidia.com/gpu"
FIRST = "GPU-00000000-0000-0000-0000-000000000000"
NODE: dict[str, object] = {"gpus": [{}, {}, {}]}
QUICK = "health: {pollInterval: 200ms, occupied: unhealthy}\nusage: {interval: 1s}\n"
WHY = Reason(ReasonKind.OCCUPIED, "3.0 GiB in use by processes outside containers")


def held_back(state: NodeState) -> dict[str, tuple[Reason, ...]]:
    """Return the reasons of the devices that are Unhealthy, by UUID."""
    return {device.uuid: device.reasons for device in state.health if device.reasons}


async def stray(running: Service, memory: int) -> None:
    """Have a process of the host use so many MiB of the first GPU; 0: end it."""
    usage = ["usage", "--gpu=0", "--host", f"--runtime-dir={running.folder}"]
    assert await drill(*usage, f"--memory={memory}", "--utilization=0") == 0


async def sampled(running: Service, after: float) -> float:
    """Wait for the first GPU's next sample; return when it was taken."""

    def taken(state: UsageState) -> float:
        return max((device.taken for device in state.devices if device.uuid == FIRST), default=0.0)

    return taken(await running.shows_usage(lambda state: taken(state) > after))


def test_an_occupied_gpu(folder: Path) -> None:
    """It is Unhealthy until the processes are gone; new exporters and monitors find it again."""

    async def story() -> None:
        (folder / "config.yaml").write_text(QUICK)
        option = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, option, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await stray(running, 3072)
            await node.until(lambda k: k.healthy(GPU) == 2)
            state = await running.shows_state(1, lambda s: bool(held_back(s)))
            assert held_back(state) == {FIRST: (WHY,)}
            labels = {"uuid": FIRST, "reason": "occupied"}
            await running.shows("gpu_sharing_device_unhealthy_reason", 1, **labels)
            await running.logged("device is occupied: it is in use, but no container holds it")

            # A new monitor knows only what the new exporter tells it.
            await running.restarted("exporter", running.kill("exporter"))
            running.kill("monitor")
            state = await running.shows_state(2, lambda s: bool(held_back(s)))
            assert held_back(state) == {FIRST: (WHY,)}

            await stray(running, 0)
            await node.until(lambda k: k.healthy(GPU) == 3)
            await running.logged("device is no longer occupied", uuid=FIRST)

    asyncio.run(story())


def test_by_default_it_is_handed_out(folder: Path) -> None:
    """Without the setting, samples that would make it Unhealthy only show the leak."""

    async def story() -> None:
        (folder / "config.yaml").write_text("usage: {interval: 1s}\n")
        option = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as node, service(folder, option, node=NODE) as running:
            await node.until(lambda k: k.healthy(GPU) == 3)
            await stray(running, 3072)
            await running.shows("gpu_sharing_device_leaked_bytes", 3 << 30, uuid=FIRST)
            taken = {await sampled(running, after=0.0)}
            while len(taken) < 2 * NEEDED:
                taken.add(await sampled(running, after=max(taken)))
            assert held_back(await running.publishes(1)) == {}
            assert node.healthy(GPU) == 3

    asyncio.run(story())
