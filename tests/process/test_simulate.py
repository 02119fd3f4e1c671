"""`simulate` and `drill`, used as a newcomer types them."""

import asyncio
from pathlib import Path

import pytest

from simulator.simulate import DeviceList, change
from tests.fakes.onlooker import drill, simulate
from tests.fakes.service import PATIENCE

FIRST = "GPU-00000000-0000-0000-0000-000000000000"


def gpu_sharing_folders() -> set[str]:
    """Return the folders of running simulations."""
    return {str(path) for path in Path("/tmp").glob("gpu-sharing-*")}


def test_simulate_with_the_default_node() -> None:
    """`simulate` registers eight GPUs, admits pods, and shows that a drilled fault arrives at the
    kubelet.
    """

    async def story() -> None:
        async with simulate() as seen:
            registered = await seen.line("registered")
            pod = await seen.line("admitted")
            variable = await seen.line(" ")
            folder = (await seen.line("try")).rpartition("--runtime-dir ")[2]
            await seen.line("following")
            drilled = await drill("xid", "79", "--gpu=0", f"--runtime-dir={folder}")
            changed = await seen.line("changed")
            code = await seen.interrupt()

            assert registered == "nvidia.com/gpu: 8 devices, 8 healthy (nvidia-gpu.sock)"
            assert pod == f"simulated/nvidia.com-gpu-pod-1 nvidia.com/gpu=1: {FIRST}"
            assert variable == f"NVIDIA_VISIBLE_DEVICES={FIRST}"
            assert (drilled, changed) == (0, f"nvidia.com/gpu: 7 of 8 healthy; unhealthy: {FIRST}")
            assert code == 0
            assert folder not in await asyncio.to_thread(gpu_sharing_folders)

    asyncio.run(story())


def test_simulate_with_replicas(folder: Path) -> None:
    """With a node file and --resource-config, `simulate` registers replicas. It runs no Python file
    of the folder in which it is called.
    """

    async def story() -> None:
        (folder / "proto.py").write_text("raise SystemExit('this is another program')")
        (folder / "node.yaml").write_text("gpus:\n  - name: NVIDIA T4\n    memoryMiB: 15360\n")
        options = (f"--node={folder}/node.yaml", "--resource-config=gpu:t4-gb:-1", "--duration=10")
        async with simulate(*options, folder=folder) as seen:
            registered = await seen.line("registered")
            code = await asyncio.wait_for(seen.process.wait(), PATIENCE)

            assert registered == "nvidia.com/t4-gb: 15 devices, 15 healthy (nvidia-t4-gb.sock)"
            assert code == 0

    asyncio.run(story())


GPUS = [f"GPU-{place}" for place in range(12)]
FIRST_OF_EACH = ", ".join(f"{uuid} (1 of 3)" for uuid in GPUS[:8])


@pytest.mark.parametrize(
    ("unhealthy", "words"),
    [
        ([], "36 of 36 healthy; unhealthy: none"),
        (["GPU-1::0", "GPU-1::1", "GPU-1::2"], "33 of 36 healthy; unhealthy: GPU-1 (3 of 3)"),
        (
            [f"{uuid}::0" for uuid in GPUS],
            f"24 of 36 healthy; unhealthy: {FIRST_OF_EACH} and 4 more",
        ),
    ],
)
def test_a_change_of_replicas_is_counted_by_gpu(unhealthy: list[str], words: str) -> None:
    """A line names GPUs, at most 8, and never each replica."""
    devices = tuple(f"{uuid}::{n}" for uuid in GPUS for n in range(3))
    assert change(DeviceList(devices), DeviceList(devices, tuple(unhealthy))) == words


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ((), ("A", "B"), "2 of 2 healthy; unhealthy: none; added: A, B"),
        (("A", "B"), ("A",), "1 of 1 healthy; unhealthy: none; removed: B"),
        (("A",), ("B",), "1 of 1 healthy; unhealthy: none; added: B; removed: A"),
        (("A::0",), ("A::0", "A::1"), "2 of 2 healthy; unhealthy: none; added: A (1 of 2)"),
    ],
)
def test_devices_that_come_and_go(
    before: tuple[str, ...], now: tuple[str, ...], words: str
) -> None:
    """A line tells of GPUs and replicas that are new or gone, not only of their health."""
    assert change(DeviceList(before), DeviceList(now)) == words
