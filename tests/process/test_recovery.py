"""A device that failed becomes Healthy only after proof of recovery; its fault is saved."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import zmq

from proto import bus
from proto.messages import DeviceHealth, DeviceState, NodeState
from proto.reasons import ReasonKind
from simulator.kubelet import Kubelet
from tests.fakes.service import PATIENCE, Service, kubelet, service

GPU = "nvidia.com/gpu"
HEALTHY = "device listed as Healthy"
FIRST, SECOND = (f"GPU-00000000-0000-0000-0000-{place:012x}" for place in range(2))
NODE: dict[str, object] = {"gpus": [{}, {}]}

PROOF = "{quietPeriod: 1s, probes: 2}"
NEVER = "{mode: never, quietPeriod: 200ms, probes: 1}"

BEATS = 5
"""NodeStates, one a second, after which a device that recovers by itself has recovered."""

Story = Callable[[Kubelet, Service], Awaitable[None]]


def tell(folder: Path, story: Story, recovery: str = PROOF) -> None:
    """Run *story* on a node of two healthy GPUs."""

    async def whole() -> None:
        async with kubelet(folder) as node, started(folder, recovery) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.logged("watching GPUs for Xid events")
            await story(node, running)

    asyncio.run(whole())


def started(folder: Path, recovery: str = PROOF) -> AbstractAsyncContextManager[Service]:
    """Return a service that checks its GPUs five times a second."""
    (folder / "config.yaml").write_text(
        f"version: v1\nhealth: {{pollInterval: 200ms, recovery: {recovery}}}\n"
    )
    return service(folder, f"--config-file={folder}/config.yaml", node=NODE)


async def told(running: Service, count: int) -> list[NodeState]:
    """Return the next *count* states of the node: the first arrives at once, then one a second."""
    inbox = bus.health_subscriber(zmq.Context.instance(), f"{running.folder}/health.ipc")
    states: list[NodeState] = []
    try:
        async with asyncio.timeout(PATIENCE):
            while len(states) < count:
                state = await bus.receive(inbox)
                if isinstance(state, NodeState):
                    states.append(state)
    finally:
        inbox.close()
    return states


async def stays(running: Service) -> list[DeviceHealth]:
    """Return the different healths of the first GPU in the time that a recovery would need."""
    states = await told(running, BEATS)
    return list(dict.fromkeys(d for s in states for d in s.health if d.uuid == FIRST))


def kinds(health: DeviceHealth) -> set[ReasonKind]:
    """Return the kinds of a device's reasons."""
    return {reason.kind for reason in health.reasons}


def changes(running: Service, uuid: str = FIRST) -> list[bool]:
    """Return each change of a GPU's health in the kubelet's list; True is Healthy."""
    listed = [
        entry["message"]
        for entry in running.entries
        if entry["message"].startswith("device listed as") and entry["uuid"] == uuid
    ]
    return [message == HEALTHY for message, _ in itertools.groupby(listed)]


async def broken(node: Kubelet, running: Service) -> None:
    """Break the first GPU, and wait until the worker knows both reasons."""
    running.node.xid(0, 79)
    await node.until(lambda k: k.healthy(GPU) == 1)
    both = {ReasonKind.RECOVERY_ACTION, ReasonKind.XID}
    await running.shows_state(
        1, lambda state: any(d.uuid == FIRST and kinds(d) == both for d in state.health)
    )


def test_a_gpu_is_healthy_again_after_a_reset(folder: Path) -> None:
    """A GPU with a fatal Xid is Healthy again after a reset; the kubelet sees just two changes."""

    async def story(node: Kubelet, running: Service) -> None:
        await broken(node, running)
        running.node.reset(0)
        await running.logged(
            "device is recovering: waiting for the quiet period to end",
            uuid=FIRST,
            state=DeviceState.RECOVERING,
        )
        await node.until(lambda k: k.healthy(GPU) == 2)
        await running.logged(HEALTHY, uuid=FIRST)
        await running.logged("device is healthy again", uuid=FIRST, state=DeviceState.HEALTHY)

        assert (changes(running), changes(running, SECOND)) == ([False, True], [])
        states = [e["state"] for e in running.entries if e["message"].startswith("device is")]
        assert states[-2:] == [DeviceState.RECOVERING, DeviceState.HEALTHY]

    tell(folder, story)


def test_changed_reasons_alone_send_no_list(folder: Path) -> None:
    """When only the reasons change, the kubelet gets no new list: lists contain no reasons."""

    async def story(node: Kubelet, running: Service) -> None:
        before = node.resources[GPU].lists
        await broken(node, running)
        running.node.reset(0)
        await node.until(lambda k: k.healthy(GPU) == 2)
        assert node.resources[GPU].lists == before + 2

    tell(folder, story)


def test_without_a_reset_a_gpu_stays_unhealthy(folder: Path) -> None:
    """A GPU that answers every check stays Unhealthy while the driver asks for a reset."""

    async def story(node: Kubelet, running: Service) -> None:
        await broken(node, running)
        (health,) = await stays(running)

        assert health.state is DeviceState.UNHEALTHY
        assert kinds(health) == {ReasonKind.XID, ReasonKind.RECOVERY_ACTION}
        assert changes(running) == [False]

    tell(folder, story)


def test_a_lost_gpu_that_answers_again_stays_unhealthy(folder: Path) -> None:
    """A GPU that was lost and answers again stays Unhealthy until it is reset."""

    async def story(node: Kubelet, running: Service) -> None:
        running.node.lose(0)
        await node.until(lambda k: k.healthy(GPU) == 1)
        await running.logged(
            "device is lost: the driver cannot reach it", uuid=FIRST, state=DeviceState.LOST
        )
        running.node.recover(0)
        await running.logged("device is unhealthy", uuid=FIRST, state=DeviceState.UNHEALTHY)
        (health,) = await stays(running)
        assert kinds(health) == {ReasonKind.GPU_LOST, ReasonKind.RECOVERY_ACTION}
        running.node.reset(0)
        await node.until(lambda k: k.healthy(GPU) == 2)
        await running.logged(HEALTHY, uuid=FIRST)
        assert changes(running) == [False, True]

    tell(folder, story)


def test_a_new_monitor_knows_the_fault(folder: Path) -> None:
    """Monitors that are killed one after the other lose no fault, and the kubelet's list does not
    change.
    """

    async def story(node: Kubelet, running: Service) -> None:
        await broken(node, running)
        for epoch in range(2, 7):
            running.kill("monitor")
            state = await running.publishes(epoch=epoch)
            health = {device.uuid: kinds(device) for device in state.health}
            assert health == {FIRST: {ReasonKind.XID, ReasonKind.RECOVERY_ACTION}, SECOND: set()}
        assert (changes(running), changes(running, SECOND)) == ([False], [])

    tell(folder, story)


def test_a_new_service_knows_the_fault(folder: Path) -> None:
    """A fault survives a restart of the service, even if the driver asks for no recovery."""

    async def story() -> None:
        async with kubelet(folder) as node:
            async with started(folder, NEVER) as running:
                await node.until(lambda k: k.healthy(GPU) == 2)
                await running.logged("watching GPUs for Xid events")
                await broken(node, running)
                running.node.reset(0)
                assert await running.stop() == 0
            async with started(folder, NEVER) as again:
                await node.until(lambda k: k.healthy(GPU) == 1)
                (health,) = await stays(again)

        assert (health.state, kinds(health)) == (DeviceState.UNHEALTHY, {ReasonKind.XID})

    asyncio.run(story())


def test_with_mode_never_a_gpu_stays_unhealthy(folder: Path) -> None:
    """With recovery mode never, a GPU stays Unhealthy after its reset."""

    async def story(node: Kubelet, running: Service) -> None:
        await broken(node, running)
        before = len(running.entries)
        running.node.reset(0)
        await running.logged("device is unhealthy", uuid=FIRST, reasons=["xid 79"], after=before)
        (health,) = await stays(running)

        assert (health.state, kinds(health)) == (DeviceState.UNHEALTHY, {ReasonKind.XID})
        assert changes(running) == [False]

    tell(folder, story, NEVER)


@pytest.mark.parametrize("recovery", [PROOF, NEVER], ids=["proof", "never"])
def test_a_failed_row_remapping_ends_with_a_reset(folder: Path, recovery: str) -> None:
    """A failed row remapping ends when the checks no longer show it, in every recovery mode."""

    async def story(node: Kubelet, running: Service) -> None:
        running.node.fail_row(0)
        await node.until(lambda k: k.healthy(GPU) == 1)
        await running.logged("device is unhealthy", uuid=FIRST, reasons=["row-remap failed"])
        running.node.reset(0)
        await node.until(lambda k: k.healthy(GPU) == 2)
        await running.logged(HEALTHY, uuid=FIRST)
        assert changes(running) == [False, True]

    tell(folder, story, recovery)


def test_a_file_that_cannot_be_read_is_set_aside(folder: Path) -> None:
    """When the saved health cannot be read, the service starts without it, says so, and keeps the
    file.
    """
    (folder / "state").mkdir()
    (folder / "state/health.json").write_bytes(b"\xff{")

    async def story(node: Kubelet, running: Service) -> None:
        await running.logged("cannot read the saved device health: starting without it")
        await broken(node, running)
        assert (folder / "state/health.unreadable").read_bytes() == b"\xff{"
        assert FIRST in (folder / "state/health.json").read_text()

    tell(folder, story)
