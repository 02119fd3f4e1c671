"""What a container gets of devices that MPS shares, from the whole service to the kubelet."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zmq
import zmq.asyncio

from proto.messages import MpsState, encode
from proto.mps import MpsDaemon, MpsShare, Phase
from simulator.kubelet import AdmissionError
from tests.fakes.service import kubelet, service

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{"memoryMiB": 81920}, {"memoryMiB": 81920}]}
MIG_NODE: dict[str, object] = {"gpus": [{}, {"mig": ["1g.10gb"]}, {"computeCapability": "6.1"}]}
FILE = """
sharing:
  mps:
    failRequestsGreaterThanOne: false
    resources: [{name: gpu, replicas: 4}]
"""
SHARE = MpsShare(20480, 25, single=False, root="/run/nvidia/mps")


@contextlib.asynccontextmanager
async def ready_daemons(folder: Path, *uuids: str) -> AsyncIterator[None]:
    """Tell whoever asks, as the tree of the daemons does, that these daemons are ready."""
    socket = zmq.asyncio.Context.instance().socket(zmq.XPUB)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    socket.bind(f"ipc://{folder}/mps.ipc")
    daemons = tuple(MpsDaemon(uuid, Phase.READY, share=SHARE) for uuid in uuids)

    async def publish() -> None:
        for sequence in range(1, 2**31):
            await socket.send(encode(MpsState(epoch=1, sequence=sequence, daemons=daemons)))
            if await socket.poll(500):
                await socket.recv()

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()
        socket.close(linger=0)


def configured(folder: Path) -> str:
    """Return the flag for a configuration file that shares GPUs by MPS."""
    (folder / "config.yaml").write_text(FILE)
    return f"--config-file={folder}/config.yaml"


def uuid(place: int) -> str:
    """Return the UUID of a simulated GPU."""
    return f"GPU-00000000-0000-0000-0000-{place:012x}"


def test_several_replicas_are_of_one_gpu(folder: Path) -> None:
    """A container gets all its replicas from one GPU, with limits in proportion, or is refused."""

    async def story() -> None:
        async with (
            ready_daemons(folder, uuid(0), uuid(1)),
            kubelet(folder) as node,
            service(folder, configured(folder), node=NODE),
        ):
            await node.until(lambda k: k.healthy(GPU) == 8)
            pods = [await node.admit(f"pod {number}", GPU, 3) for number in range(2)]
            for pod in pods:
                assert pod.envs["CUDA_MPS_PIPE_DIRECTORY"] == "/mps/nvidia.com/gpu/pipe"
                assert pod.envs["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "75"
                assert pod.envs["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] == "0=61440M"
            visible = {pod.envs["NVIDIA_VISIBLE_DEVICES"] for pod in pods}
            with pytest.raises(AdmissionError, match="they are not all of one device"):
                await node.admit("over two GPUs", GPU, 2)
            last = await node.admit("small", GPU, 1)

            assert visible == {uuid(0), uuid(1)}
            assert last.envs["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] == "25"

    asyncio.run(story())


def test_what_is_said_of_a_node_that_mps_fits_in_part(folder: Path) -> None:
    """The log names the GPU that MPS cannot share, and warns that resources do not combine."""

    async def story() -> None:
        async with (
            ready_daemons(folder, uuid(0)),
            kubelet(folder),
            service(folder, configured(folder), "--mig-strategy=mixed", node=MIG_NODE) as running,
        ):
            refused = await running.logged("cannot serve as configured")
            warned = await running.logged(
                "a container that requests a resource of MPS can use no second resource"
            )

            assert "cannot share device 2 of nvidia.com/gpu by MPS" in str(refused)
            assert (warned["resources"], warned["count"]) == ([GPU], 1)

    asyncio.run(story())
