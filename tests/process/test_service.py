"""The whole service with a stand-in kubelet: registration, lists, allocation and metrics."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import DevicePluginStub
from simulator.kubelet import AdmissionError
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
TWO_GPUS = {"gpus": [{}, {"numaNode": 1}]}


def uuid(place: int) -> str:
    """Return the UUID of a simulated GPU."""
    return f"GPU-00000000-0000-0000-0000-{place:012x}"


def test_a_node_is_registered_listed_and_allocated(folder: Path) -> None:
    """Each GPU is a device with its NUMA node, and a pod gets exactly the GPU that was allocated to
    it.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=TWO_GPUS):
            await node.until(lambda k: k.healthy(GPU) == 2)
            numa = dict(node.resources[GPU].numa)
            first = await node.admit("first", GPU, 1)
            second = await node.admit("second", GPU, 1)

            assert numa == {uuid(0): (), uuid(1): (1,)}
            assert first.envs == {"NVIDIA_VISIBLE_DEVICES": first.ids[0]}
            assert {*first.ids, *second.ids} == {uuid(0), uuid(1)}

    asyncio.run(story())


def test_a_shared_gpu_has_replicas(folder: Path) -> None:
    """With --resource-config, devices are called `<uuid>::<n>`, and a pod's replicas are on
    different GPUs.
    """

    async def story() -> None:
        shared = "nvidia.com/shared"
        options = "--resource-config=gpu:shared:3"
        async with kubelet(folder) as node, service(folder, options, node=TWO_GPUS):
            await node.until(lambda k: k.healthy(shared) == 6)
            pods = [await node.admit(f"pod-{n}", shared, 2) for n in range(3)]

            assert set(node.resources) == {shared}
            assert sorted(node.resources[shared].devices)[:2] == [f"{uuid(0)}::0", f"{uuid(0)}::1"]
            assert [set(pod.envs["NVIDIA_VISIBLE_DEVICES"].split(",")) for pod in pods] == [
                {uuid(0), uuid(1)}
            ] * 3

    asyncio.run(story())


def test_an_xid_makes_every_replica_unhealthy_in_one_list(folder: Path) -> None:
    """A fatal Xid leads to exactly one new list, in which all replicas of the GPU are Unhealthy."""

    async def story() -> None:
        options = "--resource-config=gpu:gpu:4"
        async with kubelet(folder) as node, service(folder, options, node=TWO_GPUS) as running:
            await node.until(lambda k: k.healthy(GPU) == 8)
            await running.ready()
            lists = node.resources[GPU].lists
            running.node.xid(1, 13)  # ignored: the application caused it
            running.node.xid(1, 79)
            await node.until(lambda k: k.healthy(GPU) < 8)

            assert node.resources[GPU].lists == lists + 1
            assert set(node.resources[GPU].healthy()) == {f"{uuid(0)}::{n}" for n in range(4)}

    asyncio.run(story())


def test_a_lost_gpu_affects_no_other(folder: Path) -> None:
    """When a GPU is lost, only this GPU is Unhealthy, and a pod gets the other one."""

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=TWO_GPUS) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            running.node.lose(0)
            await node.until(lambda k: k.healthy(GPU) == 1)
            pod = await node.admit("pod", GPU, 1)
            running.node.xid(1, 48)
            await node.until(lambda k: k.healthy(GPU) == 0)

            assert pod.ids == (uuid(1),)

    asyncio.run(story())


def test_an_unhealthy_gpu_is_not_allocated(folder: Path) -> None:
    """Allocate refuses an Unhealthy device, with the reason, if the kubelet does not know the
    newest list yet.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=TWO_GPUS) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            running.node.xid(0, 79)
            await node.until(lambda k: k.healthy(GPU) == 1)
            node.resources[GPU].devices[uuid(0)] = "Healthy"
            with pytest.raises(AdmissionError, match=r"is Unhealthy \(xid 79\)"):
                await node.admit("pod", GPU, 2)

    asyncio.run(story())


def test_probes_and_metrics_with_an_unhealthy_gpu(folder: Path) -> None:
    """Probes answer 200 while all resources are served, even if a GPU is Unhealthy; metrics show
    the devices.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=TWO_GPUS) as running:
            await running.ready()
            running.node.xid(1, 79)
            await node.until(lambda k: k.healthy(GPU) == 1)
            await running.shows("gpu_sharing_devices", 1, resource=GPU, health="Unhealthy")
            await running.shows("gpu_sharing_devices", 1, resource=GPU, health="Healthy")
            await running.shows("gpu_sharing_registrations_total", 1, resource=GPU)
            await running.shows("gpu_sharing_process_restarts_total", 0, process="monitor")
            ready, live = await running.get("/readyz"), await running.get("/livez")
            missing = await running.get("/nothing")

            assert ready == (200, json.dumps({"ok": True, "problems": []}) + "\n")
            assert live == (200, json.dumps({"ok": True, "problems": []}) + "\n")
            assert missing[0] == 404

    asyncio.run(story())


def test_a_stale_stream_stops_no_updates(folder: Path) -> None:
    """Of three streams one is never read: the kubelet and the other stream get every update."""

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=TWO_GPUS) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            await running.ready()
            path = f"unix:{folder}/kubelet/nvidia-gpu.sock"
            async with grpc.aio.insecure_channel(path) as channel:
                stale = DevicePluginStub(channel).ListAndWatch(api.Empty())
                second = DevicePluginStub(channel).ListAndWatch(api.Empty())
                first_list = await second.read()
                for xid in range(140, 150):
                    running.node.xid(1, xid)
                await node.until(lambda k: k.healthy(GPU) == 1)
                next_list = await second.read()
                stale.cancel()
                second.cancel()
            running.node.xid(0, 79)
            await node.until(lambda k: k.healthy(GPU) == 0)

            assert isinstance(first_list, api.ListAndWatchResponse)
            assert isinstance(next_list, api.ListAndWatchResponse)
            assert [device.health for device in first_list.devices] == ["Healthy", "Healthy"]
            assert [device.health for device in next_list.devices] == ["Healthy", "Unhealthy"]

    asyncio.run(story())


def test_a_changed_inventory_is_followed(folder: Path) -> None:
    """A restarted monitor's devices are listed without a restart of the worker; a resource without
    devices is withdrawn.
    """

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=TWO_GPUS) as running:
            await node.until(lambda k: k.healthy(GPU) == 2)
            worker = running.pids()[f"worker {GPU}"]
            running.node.remove(0)
            running.kill("monitor")
            await node.until(lambda k: len(k.resources[GPU].devices) == 1)
            kept = running.pids()[f"worker {GPU}"]
            running.node.remove(1)
            running.kill("monitor")
            await node.until(lambda k: not k.resources[GPU].devices)
            running.node.add(1)
            running.kill("monitor")
            await node.until(lambda k: k.healthy(GPU) == 1)

            assert kept == worker

    asyncio.run(story())
