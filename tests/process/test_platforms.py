"""Platforms on which containers get GPUs in another way: the whole service with the C library."""

import asyncio
import json
import shutil
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from proto import deviceplugin_pb2 as api
from proto.messages import NodeState
from proto.reasons import ReasonKind
from tests.fakes.nvml_library import Steering
from tests.fakes.service import Service, kubelet, service, until
from tests.fakes.toolkit import Host

GPU = "nvidia.com/gpu"
LIBRARY = "libnvidia-ml.so.1"
BARE = "54d0709b-558d-5a59-9c65-0c5fc14a2000"
FIRST, SECOND = (f"GPU-5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1{place:03}" for place in (0, 1))
MOUNTS = "/var/run/nvidia-container-devices"
KIND = "k8s.device-plugin.nvidia.com/gpu"
BUILD = "gpu_sharing_build_info"
NOT_SUPPORTED = 3


def lacking(*calls: str, gpus: int = 1) -> str:
    """Return what makes the library answer NOT_SUPPORTED to *calls*."""
    return ",".join(f"{gpu}:{call}:{NOT_SUPPORTED}" for gpu in range(gpus) for call in calls)


@dataclass(frozen=True)
class Case:
    """A platform, as the stand-ins show it, and what containers get."""

    kind: str
    names: str
    """Of the GPUs that NVML shows; empty: there is no NVML."""
    files: tuple[str, ...]
    """Below the root of the host."""
    devices: dict[str, str]
    """What the toolkit calls each device, by its ID for the kubelet."""
    evidence: tuple[str, ...]
    nodes: tuple[str, ...] = ()
    """Device nodes that containers get with the last device, with --pass-device-specs."""
    lacks: str = ""
    library: str = "usr/lib64"

    @property
    def gpus(self) -> str:
        """The GPUs for the stand-in for nvidia-ctk."""
        return ",".join(f"{uuid}={index}" for index, uuid in enumerate(self.devices))


CSV = "etc/nvidia-container-runtime/host-files-for-container.d/devices.csv"
RELEASE, DXCORE = "etc/nv_tegra_release", "usr/lib/wsl/lib/libdxcore.so"
WSL_LACKS = ("nvmlDeviceGetMinorNumber", "nvmlDeviceGetSupportedEventTypes")
CASES = {
    "Orin": Case(
        "tegra",
        "Orin (nvgpu)",
        (RELEASE, CSV),
        {BARE: "0"},
        (f"{{}}/{RELEASE}", LIBRARY, "integrated GPU Orin (nvgpu)"),
    ),
    "Thor": Case(
        "tegra",
        "NVIDIA Thor",
        (RELEASE,),
        {FIRST: "0"},
        (f"{{}}/{RELEASE}", LIBRARY, "integrated GPU NVIDIA Thor"),
        lacks=lacking("nvmlDeviceGetMemoryInfo"),
    ),
    "IGX Orin with a card": Case(
        "tegra-discrete",
        "Orin (nvgpu);NVIDIA RTX A6000",
        (RELEASE,),
        {BARE: "0", SECOND: "1"},
        (
            f"{{}}/{RELEASE}",
            LIBRARY,
            "integrated GPU Orin (nvgpu)",
            "discrete GPU NVIDIA RTX A6000",
        ),
        nodes=("/dev/nvidia1",),
    ),
    "a Tegra without NVML": Case(
        "tegra",
        "",
        (RELEASE,),
        {"tegra": "0"},
        (f"{{}}/{RELEASE}", "no NVML", "integrated GPU tegra"),
    ),
    "WSL2 with two GPUs": Case(
        "wsl",
        "NVIDIA GeForce RTX 4090;NVIDIA GeForce RTX 4090",
        (DXCORE, "dev/dxg"),
        {"all": "all"},
        (f"{{}}/{DXCORE}", LIBRARY),
        nodes=("/dev/dxg",),
        lacks=lacking(*WSL_LACKS, gpus=2),
        library="usr/lib/wsl/lib",
    ),
}


def prepare(host: Host, case: Case, library: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Make the root of the platform; return the service's options and environment."""
    root = host.folder / "root"
    for file in case.files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    if case.names:
        (root / case.library).mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / case.library / LIBRARY)
    host.change_tool(devices=case.gpus)
    (host.folder / "config.yaml").write_text("health: {pollInterval: 200ms}\n")
    options = (
        f"--config-file={host.folder}/config.yaml",
        f"--driver-root-ctr-path={root}",
        f"--cdi-spec-dir={host.specs}",
        f"--nvidia-cdi-hook-path={host.settings.hook_path}",
        "--device-list-strategy=envvar,volume-mounts,cdi-annotations,cdi-cri",
        "--pass-device-specs",
    )
    environment = {
        **host.environment,
        "STANDIN_NVML_DIR": str(host.folder),
        "STANDIN_NVML_NAMES": case.names,
        "STANDIN_NVML_FAIL": case.lacks,
    }
    return options, environment


def require_answer(
    answer: api.ContainerAllocateResponse, ids: list[str], nodes: tuple[str, ...]
) -> None:
    """Check that each way of naming devices has exactly these *ids*."""
    assert answer.envs["NVIDIA_VISIBLE_DEVICES"] == ",".join(ids)
    assert [mount.container_path for mount in answer.mounts] == [f"{MOUNTS}/{i}" for i in ids]
    names = [f"{KIND}={i}" for i in ids]
    assert [device.name for device in answer.cdi_devices] == names
    assert list(answer.annotations.values()) == [",".join(names)]
    assert [node.container_path for node in answer.devices] == list(nodes)


def require_mode(host: Host, case: Case) -> None:
    """Check how the service called nvidia-ctk: in the mode of this platform, with its files."""
    mode = "wsl" if case.kind == "wsl" else "csv"
    csv = [f"--csv.file={host.folder}/root/{file}" for file in case.files if file == CSV]
    generations = [call for call in host.calls() if "generate" in call]
    assert generations
    for call in generations:
        assert f"--mode={mode}" in call
        assert [word for word in call if word.startswith("--csv.file")] == csv


async def node_status(running: Service) -> dict[str, Any]:
    """Return what /status says of the node; empty while nobody answers."""
    code, body = await running.get("/status")
    found: dict[str, Any] = json.loads(body)["node"] if code == HTTPStatus.OK else {}
    return found


async def shows_platform(running: Service, case: Case) -> None:
    """Wait until status, metrics and log tell the platform with its evidence."""
    evidence = [text.format(running.folder / "root") for text in case.evidence]
    await running.logged("looked for the platform", platform=case.kind)

    async def is_told() -> bool:
        node = await node_status(running)
        return (node.get("platform"), node.get("platform_evidence")) == (case.kind, evidence)

    await until(is_told, f"platform {case.kind} in the status")

    async def is_measured() -> bool:
        names = [dict(labels) for name, labels in await running.samples() if BUILD in name]
        return [labels["platform"] for labels in names] == [case.kind]

    await until(is_measured, f"platform {case.kind} in the metrics")


@pytest.mark.parametrize("name", CASES)
def test_a_platform(host: Host, library: Path, name: str) -> None:
    """Containers get the IDs that the container toolkit knows on this platform, in each way."""
    case = CASES[name]
    options, environment = prepare(host, case, library)

    async def story() -> None:
        async with (
            kubelet(host.folder) as node,
            service(host.folder, *options, environment=environment) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == len(case.devices))
            assert list(node.resources[GPU].devices) == list(case.devices)
            stub = node.resources[GPU].stub
            for place, (uuid, toolkit_id) in enumerate(case.devices.items(), start=1):
                request = api.ContainerAllocateRequest(devices_ids=[uuid])
                answer = await stub.Allocate(api.AllocateRequest(container_requests=[request]))
                nodes = case.nodes if place == len(case.devices) else ()
                require_answer(answer.container_responses[0], [toolkit_id], nodes)
            await shows_platform(running, case)
            assert running.count("looked for the platform") == 1
            require_mode(host, case)
            errors = [e for e in running.entries if e["level"] in {"warning", "error"}]
            assert errors == []

    asyncio.run(story())


SHARED = """health: {pollInterval: 200ms}
sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}
"""


def reasons(state: NodeState) -> list[ReasonKind]:
    """Return why the only device is Unhealthy."""
    (device,) = state.health
    return [reason.kind for reason in device.reasons]


def test_wsl2_loses_its_device_node(host: Host, library: Path) -> None:
    """All replicas are Unhealthy while /dev/dxg is gone, and Healthy when it is back; one lost GPU
    makes the device Unhealthy, as containers get all GPUs.
    """
    case = CASES["WSL2 with two GPUs"]
    options, environment = prepare(host, case, library)
    (host.folder / "config.yaml").write_text(SHARED)
    node_file = host.folder / "root/dev/dxg"

    async def story() -> None:
        async with (
            kubelet(host.folder) as node,
            service(host.folder, *options, environment=environment) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 4)
            assert list(node.resources[GPU].devices) == [f"all::{n}" for n in range(4)]
            assert (await node.admit("pod", GPU, 2)).envs["NVIDIA_VISIBLE_DEVICES"] == "all"
            node_file.unlink()
            await node.until(lambda k: k.healthy(GPU) == 0)
            await running.shows_state(1, lambda state: reasons(state) == [ReasonKind.NO_ACCESS])
            node_file.touch()
            await node.until(lambda k: k.healthy(GPU) == 4)
            Steering(host.folder).lost(1)
            await node.until(lambda k: k.healthy(GPU) == 0)
            await running.shows_state(1, lambda state: reasons(state) == [ReasonKind.GPU_LOST])

    asyncio.run(story())


def test_a_node_without_a_platform_is_looked_at_again(host: Host, library: Path) -> None:
    """A node without NVML is not ready and its platform is none, until files of a Tegra come."""
    case = CASES["a Tegra without NVML"]
    options, environment = prepare(host, case, library)
    release = host.folder / "root" / RELEASE
    release.unlink()
    allowed = "--fail-on-init-error=false"

    async def story() -> None:
        async with (
            kubelet(host.folder) as node,
            service(host.folder, *options, allowed, environment=environment) as running,
        ):
            await running.logged("looked for the platform", platform="none")

            async def is_told() -> bool:
                found = await node_status(running)
                return found.get("platform") == "none" and not found["ready"]["ok"]

            await until(is_told, "platform none in the status")
            release.touch()
            await node.until(lambda k: k.healthy(GPU) == 1)
            assert list(node.resources[GPU].devices) == ["tegra"]
            await shows_platform(running, case)

    asyncio.run(story())
