"""The service follows GPUs and MIG instances that appear, disappear or change."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from proto.messages import DeviceState
from simulator.kubelet import Kubelet
from tests.fakes.service import Service, kubelet, service, until

GPU, SMALL, LARGE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
FIRST, SECOND = (f"GPU-00000000-0000-0000-0000-{place:012x}" for place in range(2))
TWO: dict[str, object] = {"gpus": [{}, {}]}
PARTED: dict[str, object] = {"gpus": [{}, {"mig": ["1g.10gb", "1g.10gb"]}]}
CONFIGURATION = """
flags: {migStrategy: mixed}
health: {rescanInterval: 200ms, pollInterval: 200ms, recovery: {quietPeriod: 1s, probes: 2}}
"""

Story = Callable[[Kubelet, Service], Awaitable[None]]


def tell(folder: Path, node: dict[str, object], story: Story) -> None:
    """Run *story* on a *node* that is checked five times a second."""

    async def whole() -> None:
        (folder / "config.yaml").write_text(CONFIGURATION)
        options = f"--config-file={folder}/config.yaml"
        async with kubelet(folder) as stand_in, service(folder, options, node=node) as running:
            await running.logged("watching GPUs for Xid events")
            await running.ready()
            await story(stand_in, running)

    asyncio.run(whole())


def devices(node: Kubelet, resource: str) -> int:
    """Return how many devices of a resource are listed."""
    known = node.resources.get(resource)
    return len(known.devices) if known and known.connected else 0


async def looked_at(running: Service, times: int) -> None:
    """Wait until the GPUs were checked so many times more."""

    async def looks() -> int:
        calls = (await running.publishes(epoch=1)).calls
        return sum(c.count for c in calls if c.call == "nvmlDeviceGetTotalEnergyConsumption")

    before = await looks()

    async def enough() -> bool:
        return await looks() >= before + times

    await until(enough, "further looks")


def test_a_gpu_is_removed_and_added(folder: Path) -> None:
    """A removed GPU leaves the list and an added GPU joins it, without a new registration."""

    async def story(node: Kubelet, running: Service) -> None:
        registrations = node.registrations
        running.node.remove(0)
        await node.until(lambda k: set(k.resources[GPU].devices) == {SECOND})
        running.node.add(0)
        await node.until(lambda k: set(k.resources[GPU].healthy()) == {FIRST, SECOND})
        assert node.registrations == registrations

    tell(folder, TWO, story)


def test_an_added_gpu_is_watched(folder: Path) -> None:
    """An Xid of a GPU that was added while the service ran reaches the kubelet."""

    async def story(node: Kubelet, running: Service) -> None:
        running.node.remove(0)
        await node.until(lambda k: set(k.resources[GPU].devices) == {SECOND})
        seen = len(running.entries)
        running.node.add(0)
        await node.until(lambda k: set(k.resources[GPU].healthy()) == {FIRST, SECOND})
        await running.logged("watching GPUs for Xid events", after=seen, gpus=2)
        running.node.xid(0, 79)
        await node.until(lambda k: set(k.resources[GPU].healthy()) == {SECOND})

    tell(folder, TWO, story)


def test_instances_follow_the_mig_layout(folder: Path) -> None:
    """The same monitor follows a changed MIG layout: resources appear and are withdrawn."""

    async def story(node: Kubelet, running: Service) -> None:
        await node.until(lambda k: devices(k, SMALL) == 2)
        monitor = running.pids()["monitor"]
        running.node.partition(1, ("3g.40gb", "1g.10gb"))
        await node.until(lambda k: (devices(k, SMALL), devices(k, LARGE)) == (1, 1))
        running.node.partition(1, ("3g.40gb",))
        await node.until(lambda k: not k.resources[SMALL].devices)
        running.node.partition(1, ("1g.10gb",))
        await node.until(lambda k: devices(k, SMALL) == 1 and not k.resources[LARGE].devices)
        assert (devices(node, GPU), running.pids()["monitor"]) == (1, monitor)

    tell(folder, PARTED, story)


def test_a_new_instance_is_watched(folder: Path) -> None:
    """An Xid of a MIG instance that was created later makes only this instance Unhealthy."""

    async def story(node: Kubelet, running: Service) -> None:
        await node.until(lambda k: devices(k, SMALL) == 2)
        running.node.partition(1, ("1g.10gb",) * 3)
        await node.until(lambda k: len(k.resources[SMALL].healthy()) == 3)
        running.node.xid(1, 94, 2)
        running.node.xid(1, 48, 2)
        # Not by the list: soon the driver asks for a reset of the GPU, with all its instances.
        await node.until(lambda k: not k.resources[SMALL].healthy())
        blamed = {e["uuid"] for e in running.entries if "xid 48" in e.get("reasons", ())}
        assert len(blamed) == 1
        assert len(node.resources[GPU].healthy()) == 1

    tell(folder, PARTED, story)


def test_a_restarted_monitor_keeps_a_lost_gpu(folder: Path) -> None:
    """A GPU that a restarted monitor cannot enumerate stays in the kubelet's list as Unhealthy."""

    async def story(node: Kubelet, running: Service) -> None:
        running.node.lose(0)
        await node.until(lambda k: set(k.resources[GPU].healthy()) == {SECOND})
        seen = len(running.entries)
        running.kill("monitor")
        await running.publishes(epoch=2)
        await running.logged("watching GPUs for Xid events", after=seen, gpus=1)
        state = await running.publishes(epoch=2)
        assert {h.uuid: h.state for h in state.health}[FIRST] is DeviceState.LOST
        assert set(node.resources[GPU].devices) == {FIRST, SECOND}
        running.node.reset(0)
        await node.until(lambda k: set(k.resources[GPU].healthy()) == {FIRST, SECOND})

    tell(folder, TWO, story)


def test_a_gpu_recovers_when_it_is_removed_and_added(folder: Path) -> None:
    """If the driver reports no recovery action, a GPU recovers when it is removed and added."""
    old: dict[str, object] = {"gpus": [{"recoveryAction": False}, {}]}

    async def story(node: Kubelet, running: Service) -> None:
        running.node.xid(0, 79)
        await node.until(lambda k: set(k.resources[GPU].healthy()) == {SECOND})
        running.node.remove(0)
        await node.until(lambda k: set(k.resources[GPU].devices) == {SECOND})
        running.node.add(0)
        await node.until(lambda k: set(k.resources[GPU].devices) == {FIRST, SECOND})
        await node.until(lambda k: set(k.resources[GPU].healthy()) == {FIRST, SECOND})
        await running.logged(
            "device is healthy again", uuid=FIRST, state=DeviceState.HEALTHY
        )  # logged after the list was sent
        states = [e["state"] for e in running.entries if e.get("uuid") == FIRST and "state" in e]
        assert states[-2:] == [DeviceState.RECOVERING, DeviceState.HEALTHY]

    tell(folder, old, story)


def test_the_energy_counter_shows_a_reset_under_an_old_driver(folder: Path) -> None:
    """If the driver reports no recovery action, memory errors stay until the GPU is reset."""
    old: dict[str, object] = {"gpus": [{"recoveryAction": False}, {}]}

    async def story(node: Kubelet, running: Service) -> None:
        running.node.fail_memory(0)
        await running.logged("device is unhealthy", uuid=FIRST, reasons=["ecc 1"])
        running.node.xid(0, 48)
        await running.logged("device is unhealthy", uuid=FIRST, reasons=["ecc 1", "xid 48"])
        await looked_at(running, 2)
        seen = len(running.entries)
        running.node.reset(0)
        await running.logged(
            "device is recovering: waiting for the quiet period to end",
            after=seen,
            uuid=FIRST,
            state=DeviceState.RECOVERING,
        )
        await node.until(lambda k: set(k.resources[GPU].healthy()) == {FIRST, SECOND})

    tell(folder, old, story)
