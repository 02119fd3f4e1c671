"""The service with the C library, which answers as on a GB200, a GB10, or in a virtual machine."""

import asyncio
from pathlib import Path

from proto.messages import NodeState
from tests.fakes import rooted
from tests.fakes.nvml_library import Steering
from tests.fakes.service import kubelet, service
from tests.unit.test_numa import node_of

GPU = "nvidia.com/gpu"


def environment(folder: Path, library: Path, **conditions: str) -> dict[str, str]:
    """Return the environment of a service with the library under these *conditions*."""
    named = {f"STANDIN_NVML_{name.upper()}": value for name, value in conditions.items()}
    paths = {"LD_LIBRARY_PATH": str(library.parent), "STANDIN_NVML_DIR": str(folder)}
    return {**paths, **named}


def test_a_gb200(folder: Path, library: Path) -> None:
    """Of 34 NUMA nodes, only the two with CPUs are hints, and the problem names the parameter."""
    sysfs, procfs = folder / "sys", folder / "proc"
    for number in range(34):
        node_of(sysfs, number, f"{72 * number}-{72 * number + 71}\n" if number < 2 else "\n")
    for place, near in enumerate((0, 0, 1, 5)):
        device = sysfs / f"bus/pci/devices/0000:{0x10 + place:02x}:00.0"
        device.mkdir(parents=True)
        (device / "numa_node").write_text(f"{near}\n")
    params = procfs / "driver/nvidia/params"
    params.parent.mkdir(parents=True)
    params.write_text('CoherentGPUMemoryMode: ""\n')
    (folder / "config.yaml").write_text("health: {rescanInterval: 200ms}\n")

    async def story() -> None:
        option = f"--config-file={folder}/config.yaml"
        within = rooted.command(sysfs, procfs)
        driver = environment(folder, library, gpus="4")
        async with (
            kubelet(folder) as node,
            service(folder, option, environment=driver, within=within) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 4)
            assert sorted(node.resources[GPU].numa.values()) == [(), (0,), (0,), (1,)]
            assert len((await node.admit("pod", GPU, 2)).ids) == 2
            await running.shows("gpu_sharing_node_problem", 1, problem="numa-nodes")
            problem = await running.logged("cannot serve as configured", problem="numa-nodes")
            assert "34 NUMA nodes, 32 of them without CPUs" in problem["reason"]
            # As if the module had been loaded anew; the rescan reads it.
            params.write_text('CoherentGPUMemoryMode: "driver"\n')
            await running.shows_state(1, lambda s: s.inventory.numa.memory_mode == "driver")

    asyncio.run(story())


def test_a_gb10(folder: Path, library: Path) -> None:
    """A GPU whose memory is NOT_SUPPORTED has as many replicas as the file's number says."""
    (folder / "config.yaml").write_text("unifiedMemory: 64000\n")

    async def story() -> None:
        options = (f"--config-file={folder}/config.yaml", "--resource-config=gpu:gpu:-1")
        failing = "0:nvmlDeviceGetMemoryInfo:3"
        driver = environment(folder, library, names="NVIDIA GB10", fail=failing)
        async with (
            kubelet(folder) as node,
            service(folder, *options, environment=driver) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 64)
            assert len((await node.admit("pod", GPU, 3)).ids) == 3
            assert running.entries
            assert [e for e in running.entries if e["level"] in {"warning", "error"}] == []

    asyncio.run(story())


def reasons(state: NodeState) -> set[str]:
    """Return the reasons of all devices."""
    return {str(reason) for device in state.health for reason in device.reasons}


def test_a_confidential_guest(folder: Path, library: Path) -> None:
    """No GPU is handed out before it is attested, licensed, and has joined its fabric."""
    (folder / "config.yaml").write_text(
        "health: {pollInterval: 200ms, fabricAfter: 1s, licence: unhealthy}\n"
    )
    driver = environment(folder, library, gpus="2", cc="0", licence="0", fabric="2")

    async def story() -> None:
        option = f"--config-file={folder}/config.yaml"
        async with (
            kubelet(folder) as node,
            service(folder, option, environment=driver) as running,
        ):
            steering = Steering(folder)
            everything = {"cc-not-ready", "licence", "fabric not joined: in progress"}
            await running.shows_state(1, lambda s: reasons(s) == everything)
            assert node.healthy(GPU) == 0
            steering.confidential(ready=1)
            await running.shows_state(1, lambda s: reasons(s) == everything - {"cc-not-ready"})
            steering.fabric(3)
            await running.shows_state(1, lambda s: reasons(s) == {"licence"})
            steering.licence(1)
            await node.until(lambda k: k.healthy(GPU) == 2)
            pod = await node.admit("pod", GPU, 1)
            assert pod.envs["NVIDIA_VISIBLE_DEVICES"].startswith("GPU-")
            # A driver that no longer answers makes nothing Unhealthy, nor Healthy.
            for gpu in range(2):
                steering.fail(gpu, "nvmlDeviceGetGpuFabricInfoV", 999)
                steering.fail(gpu, "nvmlDeviceGetGridLicensableFeatures", 999)
            state = await running.publishes(1)
            await running.publishes(1, state.sequence + 3)
            assert node.healthy(GPU) == 2

    asyncio.run(story())
