"""`simulate` with a configuration that shares GPUs by MPS."""

import asyncio
import json
import signal
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

from simulator.live_node import LiveNode
from tests.fakes import commands
from tests.fakes.onlooker import Onlooker, drill, simulate
from tests.fakes.service import PATIENCE, kubelet, service
from tests.hardware.transcript import alive, until

FIRST = "GPU-00000000-0000-0000-0000-000000000000"
SECOND = "GPU-00000000-0000-0000-0000-000000000001"

CONFIGURATION = {
    "version": "v1",
    "sharing": {"mps": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}},
    "health": {"pollInterval": "200ms"},
}


def configuration(folder: Path) -> None:
    """Write a node file with two GPUs, and a configuration that shares them by MPS."""
    (folder / "node.json").write_text(json.dumps({"gpus": [{}, {}]}))
    (folder / "config.json").write_text(json.dumps(CONFIGURATION))
    folder.chmod(0o755)  # as /tmp: clients of other users reach the sockets


def simulated(folder: Path) -> AbstractAsyncContextManager[Onlooker]:
    """Run `simulate` with two GPUs that MPS shares; its temporary folders are in *folder*."""
    configuration(folder)
    options = (f"--node={folder}/node.json", f"--config-file={folder}/config.json")
    return simulate(*options, environment={"TMPDIR": str(folder)})


async def status(folder: str) -> dict[str, Any]:
    """Return what `status --json` prints."""
    words = ("status", "--json", f"--runtime-dir={folder}")
    done = await asyncio.to_thread(commands.run, *words)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def daemons(folder: Path) -> list[int]:
    """Return the PIDs of the MPS daemons that were started below a folder."""
    return [int(file.read_text()) for file in folder.glob("gpu-mps-*/*/pipe/*.pid")]


def test_a_fault_of_mps_is_of_one_gpu(folder: Path) -> None:
    """Pods are clients of MPS; a drilled fault makes the replicas of that GPU Unhealthy, until it
    is over.
    """

    async def story() -> None:
        async with simulated(folder) as seen:
            assert await seen.line("registered") == (
                "nvidia.com/gpu: 8 devices, 8 healthy (nvidia-gpu.sock)"
            )
            for pod, uuid in (("1", FIRST), ("2", SECOND)):
                admitted = await seen.line("admitted")
                name = f"simulated/nvidia.com-gpu-pod-{pod}"
                assert admitted == f"{name} nvidia.com/gpu=1: {uuid}::0"
            given = (await seen.line("try")).split()
            await seen.line("following")
            started = await asyncio.to_thread(daemons, folder)
            assert len(started) == 2

            assert given[-5:-1] == ["mps-fault", "--gpu", "0", "--runtime-dir"]
            assert await drill(*given[-5:]) == 0
            assert await seen.line("changed") == (
                f"nvidia.com/gpu: 4 of 8 healthy; unhealthy: {FIRST} (4 of 4)"
            )
            gpus = (await status(given[-1]))["gpus"]
            reasons = {gpu["uuid"]: [reason["kind"] for reason in gpu["reasons"]] for gpu in gpus}
            assert reasons == {FIRST: ["mps"], SECOND: []}

            assert await drill("recover", *given[-4:]) == 0
            assert await seen.line("changed") == "nvidia.com/gpu: 8 of 8 healthy; unhealthy: none"
            assert await seen.interrupt() == 0
        assert not any(map(alive, started))

    asyncio.run(story())
    assert list(folder.glob("gpu-*")) == []


def test_both_trees_share_a_simulated_node(folder: Path) -> None:
    """With --simulated-node, `mps` keeps simulated daemons, without another option."""
    configuration(folder)
    options = [f"--config-file={folder}/config.json", f"--mps-root={folder}/root"]
    options.append(f"--simulated-node={folder}/node.json")

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            service(folder, *options),
            service(folder, "mps", *options, f"--state-dir={folder}/mps-state") as tree,
        ):
            await node.until(lambda k: k.healthy("nvidia.com/gpu") == 8)
            modes = await asyncio.to_thread(LiveNode(folder).read)
            assert modes.modes == {FIRST: 3, SECOND: 3}  # EXCLUSIVE_PROCESS
            assert await tree.stop() == 0

    asyncio.run(story())


def test_nothing_goes_on_after_a_killed_simulation(folder: Path) -> None:
    """When `simulate` is killed, its daemons end too."""

    async def story() -> None:
        async with simulated(folder) as seen:
            await seen.line("registered")
            started = await asyncio.to_thread(daemons, folder)
            seen.process.send_signal(signal.SIGKILL)
            await seen.process.wait()
            gone = partial(until, lambda: not any(map(alive, started)), PATIENCE)
            assert started
            assert await asyncio.to_thread(gone)

    asyncio.run(story())
