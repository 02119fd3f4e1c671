"""The whole service on simulated nodes of other platforms, from the files that users can start."""

import asyncio
import functools
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from proto import deviceplugin_pb2 as api
from simulator.kubelet import Kubelet
from tests.fakes.service import kubelet, service, until
from tests.process.test_labels_command import labels

FILES = Path(__file__).parents[2] / "deploy/simulated-nodes"
ORIN = "54d0709b-558d-5a59-9c65-0c5fc14a2000"
FIRST, SECOND = (f"GPU-00000000-0000-0000-0000-{place:012x}" for place in (0, 1))
TWO_RESOURCES = "a container that requests two resources sees the devices of only one of them"
RENAMED = "resources: {gpus: [{pattern: tegra, name: igpu}]}\nhealth: {pollInterval: 200ms}\n"


@dataclass(frozen=True)
class Served:
    """What a node serves."""

    platform: str
    devices: dict[str, tuple[str, str]]
    """Resource and what the container runtime gets, by the device's ID."""
    product: str
    """As labels name it."""


NODES = {
    "jetson-orin": Served("tegra", {ORIN: ("nvidia.com/igpu", "0")}, "Orin-nvgpu"),
    "jetson-thor": Served("tegra", {FIRST: ("nvidia.com/igpu", "0")}, "NVIDIA-Thor"),
    "igx-orin": Served(
        "tegra-discrete",
        {ORIN: ("nvidia.com/igpu", "0"), SECOND: ("nvidia.com/gpu", "1")},
        "Orin-nvgpu",
    ),
    "gb10": Served("nvml", {FIRST: ("nvidia.com/gpu", FIRST)}, "NVIDIA-GB10"),
    "vgpu": Served("nvml", {FIRST: ("nvidia.com/gpu", FIRST)}, "NVIDIA-A40-12Q"),
    "wsl2": Served("wsl", {"all": ("nvidia.com/gpu", "all")}, "NVIDIA-GeForce-RTX-4090"),
}


def test_each_file_is_tested() -> None:
    """Each file of a platform here is in the table of this test, or in test_coherent.py."""
    assert {path.stem for path in FILES.iterdir()} == {*NODES, "gb200"}


def is_served(resource: str, node: Kubelet) -> bool:
    """Return whether the kubelet has one Healthy device of *resource*."""
    return node.healthy(resource) == 1


@pytest.mark.parametrize("name", NODES)
def test_a_simulated_platform(folder: Path, name: str) -> None:
    """Each device is listed, handed out and shown, and nothing is logged as a problem."""
    expected = NODES[name]
    (folder / "config.yaml").write_text(RENAMED)
    option = f"--config-file={folder}/config.yaml"
    node_file = yaml.safe_load((FILES / f"{name}.yaml").read_text())

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, option, node=node_file) as running:
            for uuid, (resource, toolkit_id) in expected.devices.items():
                await node.until(functools.partial(is_served, resource))
                assert list(node.resources[resource].devices) == [uuid]
                request = api.ContainerAllocateRequest(devices_ids=[uuid])
                answer = await node.resources[resource].stub.Allocate(
                    api.AllocateRequest(container_requests=[request])
                )
                envs = answer.container_responses[0].envs
                assert envs["NVIDIA_VISIBLE_DEVICES"] == toolkit_id
            await running.ready()

            async def is_told() -> bool:
                status = json.loads((await running.get("/status"))[1])
                told = [gpu["uuid"] for gpu in status["gpus"] or ()]
                ok = status["ok"] and status["node"]["platform"] == expected.platform
                return ok and told == list(expected.devices)

            await until(is_told, "a status in which all is well")
            code, page = await running.get("/")
            assert (code, f"platform {expected.platform}" in page) == (200, True)
            names = {dict(key).get("uuid") for _, key in await running.samples()} - {None}
            assert {*expected.devices} <= names
            loud = [e["message"] for e in running.entries if e["level"] in {"warning", "error"}]
            assert loud == [TWO_RESOURCES] * (len(expected.devices) - 1)

    asyncio.run(story())


@pytest.mark.parametrize("name", ["igx-orin", "wsl2"])
def test_the_labels_of_a_simulated_platform(name: str) -> None:
    """The labels name the model, and count the GPUs of it."""
    code, found, errors = labels(f"--simulated-node={FILES}/{name}.yaml")
    assert (code, errors) == (0, [])
    assert found["gpu.product"] == NODES[name].product
    assert (found["gpu.count"], found["gpu.replicas"]) == ("1", "1")
