"""The kubelet, the metrics, the status and the Events agree on whether a device is healthy."""

import asyncio
import json
import signal
from pathlib import Path

from tests.fakes.apiserver import apiserver
from tests.fakes.service import Service, kubelet, service, until

GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
UUID = "GPU-10000000-0000-0000-0000-000000000000"
NODE: dict[str, object] = {"gpus": [{"uuid": UUID, "mig": ["1g.10gb", "1g.10gb"]}, {}]}
FATAL = "health: {xids: {94: fatal}}"
"""A fatal Xid after which the simulated driver does not ask for a reset of the whole GPU."""


async def shown(running: Service) -> tuple[bool, list[bool]]:
    """Return whether /status reports the first GPU as healthy, and each of its MIG instances."""
    gpu = json.loads((await running.get("/status"))[1])["gpus"][0]
    return gpu["healthy"], [instance["healthy"] for instance in gpu["instances"]]


def test_a_fault_of_an_instance_is_a_fault_of_the_whole_gpu(folder: Path) -> None:
    """Under MIG strategy none, an instance's Xid makes the whole GPU Unhealthy everywhere."""

    async def scenario() -> None:
        (folder / "config.yaml").write_text(f"version: v1\n{FATAL}\n")
        options = ("--node-name=node-1", "--node-events", f"--config-file={folder}/config.yaml")
        async with apiserver() as api, kubelet(folder) as node:
            environment = api.kubeconfig(folder)
            async with service(folder, *options, node=NODE, environment=environment) as running:
                await node.until(lambda k: k.healthy(GPU) == 2)
                await running.logged("watching GPUs for Xid events")
                running.node.xid(0, 94, mig=1)
                await node.until(lambda k: k.healthy(GPU) == 1)
                await running.shows("gpu_sharing_device_healthy", 0.0, uuid=UUID)
                labels = {"uuid": UUID, "reason": "xid"}
                await running.shows("gpu_sharing_device_unhealthy_reason", 1.0, **labels)
                assert await shown(running) == (False, [True, False])
                await api.until("an Event", lambda: api.told("GpuUnhealthy"))
                told = [event["message"] for event in api.told("GpuUnhealthy")]
                assert [message.split(":")[0] for message in told] == [
                    f"GPU 0 ({UUID}) is Unhealthy"
                ]

    asyncio.run(scenario())


def test_a_change_of_the_strategy_changes_the_health(folder: Path) -> None:
    """After a change to MIG strategy mixed, only the instance with the Xid is Unhealthy, not its
    GPU.
    """

    async def scenario() -> None:
        config = folder / "config.yaml"
        config.write_text(f"version: v1\nflags: {{migStrategy: none}}\n{FATAL}\n")
        async with (
            kubelet(folder) as node,
            service(folder, f"--config-file={config}", node=NODE) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.logged("watching GPUs for Xid events")
            running.node.xid(0, 94, mig=1)
            await running.shows("gpu_sharing_device_healthy", 0.0, uuid=UUID)
            config.write_text(f"version: v1\nflags: {{migStrategy: mixed}}\n{FATAL}\n")
            running.process.send_signal(signal.SIGHUP)
            await node.until(lambda k: k.healthy(SLICE) == 1)
            await running.shows("gpu_sharing_device_healthy", 1.0, uuid=UUID)
            assert await shown(running) == (True, [True, False])

    asyncio.run(scenario())


def test_a_silent_monitor_is_reported_in_events(folder: Path) -> None:
    """When the monitor is silent, the Events report the devices as Unhealthy, as the kubelet sees
    them.
    """

    async def scenario() -> None:
        (folder / "config.yaml").write_text(
            "version: v1\nhealth: {staleAfter: 3s, pollInterval: 1s}\n"
        )
        options = ("--node-name=node-1", "--node-events", f"--config-file={folder}/config.yaml")
        async with apiserver() as api, kubelet(folder) as node:
            environment = api.kubeconfig(folder)
            async with service(folder, *options, node=NODE, environment=environment) as running:
                await node.until(lambda k: k.healthy(GPU) == 2)
                await until(lambda: "cluster" in running.pids(), "a process for the cluster")
                await running.logged("watching GPUs for Xid events")
                monitor = running.kill("monitor", signal.SIGSTOP)
                await node.until(lambda k: k.healthy(GPU) == 0)
                await api.until("Events", lambda: len(api.told("GpuUnhealthy")) == 2)
                messages = [event["message"] for event in api.told("GpuUnhealthy")]
                assert all("the health monitor is silent" in text for text in messages)
                assert running.kill("monitor", signal.SIGCONT) == monitor
                await node.until(lambda k: k.healthy(GPU) == 2)
                await api.until("Events", lambda: len(api.told("GpuHealthy")) == 2)

    asyncio.run(scenario())
