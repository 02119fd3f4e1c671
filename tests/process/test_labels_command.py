"""The command `labels`: it looks at the node once, and no driver holds it up for ever."""

import asyncio
import json
from pathlib import Path

import pytest

from health import unified_memory
from simulator.live_node import LiveNode
from tests.fakes import commands
from tests.fakes.service import kubelet, service

H100 = "NVIDIA-H100-80GB-HBM3"
NODE: dict[str, object] = {"gpus": [{}, {}]}
SOON = "version: v1\nhealth: {hangAfter: 3s, pollInterval: 1s}\n"
"""The shortest time after which a call hangs."""


def labels(*options: str, **environment: str) -> tuple[int, dict[str, str], list[str]]:
    """Run the command; return its exit code, the labels without their domain, and its errors."""
    done = commands.run("labels", *options, environment=environment)
    lines = [line.partition("=") for line in done.stdout.splitlines()]
    assert [key for key, _, _ in lines] == sorted(key for key, _, _ in lines)
    found = {key.removeprefix("nvidia.com/"): value for key, _, value in lines}
    return done.returncode, found, done.stderr.splitlines()


def driven(folder: Path, library: Path, **more: str) -> tuple[int, dict[str, str], list[str]]:
    """Run the command with the C library, under these conditions."""
    (folder / "config.yaml").write_text(SOON)
    conditions = {f"STANDIN_NVML_{name.upper()}": value for name, value in more.items()}
    found = {"LD_LIBRARY_PATH": str(library.parent), **conditions}
    return labels(f"--config-file={folder}/config.yaml", **found)


def test_a_simulated_node_without_a_service(folder: Path) -> None:
    """The labels of a node file are printed without a running service."""
    node = folder / "node.json"
    node.write_text(json.dumps({"machine": "My Rack", "gpus": [{"mig": ["1g.10gb"]}, {}]}))
    code, found, errors = labels(
        f"--simulated-node={node}", "--mig-strategy=mixed", "--resource-config=gpu:gpu:4"
    )
    assert (code, errors) == (0, [])
    assert (found["gpu.product"], found["gpu.replicas"]) == (f"{H100}-SHARED", "4")
    assert (found["gpu.machine"], found["mig-1g.10gb.multiprocessors"]) == ("My-Rack", "16")
    assert (found["vgpu.present"], found["cuda.runtime-version.full"]) == ("false", "13.0")


def test_a_simulated_node_of_a_service(folder: Path) -> None:
    """What a drill did to the node of a running service is in the labels."""

    async def story() -> None:
        async with kubelet(folder) as node, service(folder, node=NODE):
            await node.until(lambda k: k.healthy("nvidia.com/gpu") == 2)
            LiveNode(folder).remove(1)
            options = (f"--runtime-dir={folder}", f"--simulated-node={folder}/node.json")
            code, found, _ = await asyncio.to_thread(labels, *options)
            assert (code, found["gpu.count"]) == (0, "1")

    asyncio.run(story())


def test_the_driver_tells_the_facts(folder: Path, library: Path) -> None:
    """The labels that only the driver knows are there, through nvidia-ml-py."""
    code, found, errors = driven(folder, library)
    assert (code, errors) == (0, [])
    assert (found["gpu.count"], found["gpu.memory"], found["mig.capable"]) == ("2", "81559", "true")
    assert found["gpu.clique"] == "5a2f1c30-7b1e-4c55-9a44-0d3f6e8b1f00.7"
    assert found["cuda.runtime-version.full"] == "13.0"


def test_a_gpu_without_any_optional_call(folder: Path, library: Path) -> None:
    """GPUs that support no optional call have the labels that are left."""
    code, found, errors = driven(folder, library, without="all")
    assert (code, errors, found["gpu.product"]) == (0, [], H100)
    assert found["mig.capable"] == "false"
    assert found["gpu.memory"] == str(unified_memory.mib_of_machine(Path("/proc")))
    assert found.keys().isdisjoint({"gpu.family", "gpu.clique"})


HANGS = {
    "each call": ("1", "1", "cannot label GPU 1: nvmlDeviceGetHandleByIndex does not return"),
    "one fact": ("1:nvmlDeviceGetGpuFabricInfoV", "2", None),
}


@pytest.mark.parametrize(("hang", "count", "error"), HANGS.values(), ids=HANGS)
def test_a_gpu_that_hangs(
    folder: Path, library: Path, hang: str, count: str, error: str | None
) -> None:
    """A GPU that hangs costs its own facts only."""
    code, found, errors = driven(folder, library, hang=hang)
    assert (code, errors) == (0, [error] if error else [])
    assert (found["gpu.count"], found["gpu.product"]) == (count, H100)


NOT_LOADED = "cannot call nvmlInit: Driver Not Loaded (NVML error 9)"
FAILURES = {
    "it hangs": ({"hang_init": "1"}, "the driver hangs in nvmlInit; reboot the node"),
    "not loaded": ({"init_error": "9"}, f"{NOT_LOADED}; load the kernel module nvidia on the node"),
}


@pytest.mark.parametrize(("conditions", "cause"), FAILURES.values(), ids=FAILURES)
def test_a_driver_that_cannot_be_used(
    folder: Path, library: Path, conditions: dict[str, str], cause: str
) -> None:
    """Without a usable driver the command prints one line with the cause, and exits with 1."""
    assert driven(folder, library, **conditions) == (1, {}, [f"cannot label the node: {cause}"])


def test_no_driver() -> None:
    """On a node without a driver the command says so, and what to do."""
    code, found, (error,) = labels("--driver-root-ctr-path=/")
    assert (code, found) == (1, {})
    assert error.startswith("cannot label the node: cannot call nvmlInit: ")
    assert error.endswith("install the NVIDIA driver, or mount it at --driver-root-ctr-path")
