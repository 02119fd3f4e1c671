"""Nodes with coherent CPUs or unified memory: the whole service on a simulated GB200 and GB10."""

import asyncio
import json
import signal
from pathlib import Path

import yaml

from tests.fakes.service import kubelet, service
from tests.process.test_labels_command import labels
from tests.process.test_simulated_platforms import FILES

GPU = "nvidia.com/gpu"
GB200, GB10 = (yaml.safe_load((FILES / f"{name}.yaml").read_text()) for name in ("gb200", "gb10"))
CHANNELS = "dev/nvidia-caps-imex-channels"


def test_a_gb200_with_imex_channels(folder: Path) -> None:
    """Its GPUs have hints for NUMA nodes with CPUs; channels count that come after the start."""

    async def story() -> None:
        file, root = folder / "config.yaml", folder / "root"
        (root / CHANNELS).mkdir(parents=True)
        (root / CHANNELS / "channel0").touch()
        file.write_text(
            "imex: {channelIDs: [0, 3], required: true}\nflags: {failOnInitError: false}\n"
            "health: {rescanInterval: 200ms}\n"
        )
        options = (f"--config-file={file}", f"--driver-root-ctr-path={root}")
        async with kubelet(folder) as node, service(folder, *options, node=GB200) as running:
            await running.shows("gpu_sharing_node_problem", 1, problem="imex-missing")
            await running.says("/readyz", "channel3; create")
            (root / CHANNELS / "channel3").touch()
            await node.until(lambda k: k.healthy(GPU) == 4)
            resource = node.resources[GPU]
            assert sorted(resource.numa.values()) == [(0,), (0,), (1,), (1,)]
            pod = await node.admit("pod", GPU, 2)
            assert pod.envs["NVIDIA_IMEX_CHANNELS"] == "0,3"
            await running.shows("gpu_sharing_node_problem", 1, problem="numa-nodes")
            _, body = await running.get("/status")
            (problem,) = json.loads(body)["node"]["problems"]
            assert (problem["kind"], problem["fatal"]) == ("numa-nodes", False)
            assert problem["text"].startswith("the node has 34 NUMA nodes, 32 of them without CPUs")

            (root / CHANNELS / "channel0").unlink()
            await node.until(lambda k: k.healthy(GPU) == 0)

    asyncio.run(story())


def test_a_gb10_counts_the_memory_of_the_machine(folder: Path) -> None:
    """`-1` replicas count the machine's memory, or what the file says, also after a reload."""

    async def story() -> None:
        file = folder / "config.yaml"
        file.write_text("version: v1\n")
        options = (f"--config-file={file}", "--resource-config=gpu:gpu:-1")
        async with kubelet(folder) as node, service(folder, *options, node=GB10) as running:
            await node.until(lambda k: k.healthy(GPU) == 122)
            await running.ready()
            gpu = json.loads((await running.get("/status"))[1])["gpus"][0]
            assert (gpu["memory_mib"], gpu["unified_memory"]) == (122880, True)
            assert "122880 MiB of the machine" in (await running.get("/"))[1]
            file.write_text("version: v1\nunifiedMemory: 64000\n")
            running.process.send_signal(signal.SIGHUP)
            await node.until(lambda k: k.healthy(GPU) == 64)
            assert "memory-unknown" not in (await running.get("/status"))[1]

    asyncio.run(story())
    code, found, errors = labels(
        f"--simulated-node={folder}/node.json", f"--config-file={folder}/config.yaml"
    )
    assert (code, errors, found["gpu.memory"]) == (0, [], "64000")
