"""The kubelet's pod resources API sends answers that are long, compressed, or no lists."""

import asyncio
from pathlib import Path

import grpc
import pytest

from supervisor.exporter.pod_list import LONGEST_LIST
from supervisor.exporter.pod_resources import PodResources
from supervisor.status.allocations import Held
from tests.fakes.memory import peak
from tests.fakes.pod_lists import GPU, HOSTILE, MIB, pod_lists
from tests.fakes.service import PATIENCE, kubelet, service


def test_an_answer_that_cannot_be_decoded_is_no_answer(folder: Path) -> None:
    """An answer that cannot be decoded counts as no answer; an empty answer means no pods."""

    async def story() -> None:
        path = folder / "pods.sock"
        async with pod_lists(path, b"") as lists:
            pods = PodResources(str(path), lambda: frozenset({GPU}))
            heard = []
            for lists.answer in (b"\xff" * 100, b"", b"\x0a\x02\xff\xff"):
                heard.append(await asyncio.wait_for(pods.next(), PATIENCE))
                pods.look()

        assert heard == [None, Held(), None]

    asyncio.run(story())


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_an_answer_that_is_too_long_is_no_answer(
    folder: Path, compression: grpc.Compression
) -> None:
    """An answer over the limit counts as no answer, however short it is while compressed."""

    async def story() -> None:
        path = folder / "pods.sock"
        async with pod_lists(path, HOSTILE["pods"](LONGEST_LIST + 2), compression) as lists:
            pods = PodResources(str(path), lambda: frozenset({GPU}))
            assert await asyncio.wait_for(pods.next(), PATIENCE) is None
            assert lists.calls == 1

    asyncio.run(story())


def test_a_hostile_list_costs_the_exporter_little(folder: Path) -> None:
    """The exporter reads a list of eight million pods in under 100 MiB, and answers probes; when
    the list makes sense again, the exporter shows the holders.
    """

    async def story() -> None:
        path = folder / "pods.sock"
        async with (
            pod_lists(path, HOSTILE["pods"](LONGEST_LIST)) as lists,
            kubelet(folder) as node,
            service(
                folder,
                f"--pod-resources-socket={path}",
                node={"gpus": [{}]},
                exec_because="its memory is measured",
            ) as running,
        ):
            await node.until(lambda k: k.healthy(GPU) == 1)
            said = "cannot read pod resources from the kubelet: holders are unknown"
            await running.logged(said, code="NONSENSE")
            await running.shows("gpu_sharing_pod_resources_up", 0.0)
            assert (await running.get("/livez"))[0] == 200
            assert peak(running.pids()["exporter"]) < 100 * MIB + peak(running.pids()["monitor"])
            lists.answer = b""
            await running.logged("reading pod resources from the kubelet again")

    asyncio.run(story())
