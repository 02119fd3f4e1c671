"""MIG strategies and replicas in the whole service: what it advertises and allocates."""

import asyncio
import json
from pathlib import Path

import pytest

from simulator.kubelet import AdmissionError
from tests.fakes.service import kubelet, service

MIG_NODE: dict[str, object] = {
    "gpus": [{"mig": ["1g.10gb", "1g.10gb", "3g.40gb"]}, {"name": "NVIDIA A30", "memoryMiB": 24576}]
}
UNEVEN: dict[str, object] = {"gpus": [{"mig": ["1g.10gb"]}, {"mig": ["3g.40gb"]}]}
MIXED_CLUSTER = """
version: v1
flags: {migStrategy: mixed}
sharing:
  timeSlicing:
    resources:
      - {name: nvidia.com/gpu, replicas: 10}
      - {name: nvidia.com/mig-1g.5gb, replicas: 2}
"""
"""NVIDIA's example for nodes of several kinds."""
SMALL = "nvidia.com/mig-1g.10gb"


def test_each_profile_is_a_resource(folder: Path) -> None:
    """Under strategy mixed, each profile and the whole GPUs are a resource with its own worker."""

    async def story() -> None:
        async with (
            kubelet(folder) as node,
            service(folder, "--mig-strategy=mixed", node=MIG_NODE) as running,
        ):
            await node.until(lambda k: len(k.resources) == 3)
            await running.ready()
            pod = await node.admit("pod", SMALL, 1)
            lists = {name: resource.lists for name, resource in node.resources.items()}
            running.node.xid(0, 79, mig=0)
            await node.until(lambda k: k.healthy(SMALL) == 1)
            after = {name: resource.lists for name, resource in node.resources.items()}

            assert sorted(node.resources) == ["nvidia.com/gpu", SMALL, "nvidia.com/mig-3g.40gb"]
            assert pod.envs["NVIDIA_VISIBLE_DEVICES"].startswith("MIG-")
            assert after == {**lists, SMALL: lists[SMALL] + 1}
            warning = "a container that requests two resources sees the devices of only one of them"
            warned = await running.logged(warning)
            assert (warned["resources"], running.count(warning)) == (sorted(node.resources), 1)

    asyncio.run(story())


def test_an_xid_of_a_gpu_affects_all_its_instances(folder: Path) -> None:
    """An Xid of a GPU makes all its MIG instances Unhealthy, under every resource name."""

    async def story() -> None:
        options = ("--mig-strategy=mixed", "--resource-config=mig-1g.10gb:slice:2")
        async with (
            kubelet(folder) as node,
            service(folder, *options, node=MIG_NODE) as running,
        ):
            await node.until(lambda k: k.healthy("nvidia.com/slice") == 4)
            await running.ready()
            running.node.xid(0, 79)
            await node.until(
                lambda k: (
                    not k.healthy("nvidia.com/slice") and not k.healthy("nvidia.com/mig-3g.40gb")
                )
            )

            assert node.healthy("nvidia.com/gpu") == 1

    asyncio.run(story())


def test_a_shared_resource_that_the_node_does_not_have_is_only_a_notice(folder: Path) -> None:
    """One file fits a mixed cluster: log and status tell of it, and no metric has an alert."""

    async def story() -> None:
        (folder / "config.yaml").write_text(MIXED_CLUSTER)
        options = f"--config-file={folder}/config.yaml"
        async with (
            kubelet(folder) as node,
            service(folder, options, node={"gpus": [{}]}) as running,
        ):
            await node.until(lambda k: k.healthy("nvidia.com/gpu") == 10)
            await running.ready()
            told = await running.logged("a setting has no effect on this node", level="info")
            assert told["reason"].endswith("no such resource: nvidia.com/mig-1g.5gb")
            shown = json.loads((await running.get("/status"))[1])["node"]
            assert (shown["problems"], shown["notices"]) == ([], [told["reason"]])
            names = {name for name, _ in await running.samples()}
            assert "gpu_sharing_node_problem" not in names
            assert running.count("cannot serve as configured") == 0

    asyncio.run(story())


def test_an_uneven_node_is_refused_under_single(folder: Path) -> None:
    """With strategy single, GPUs with different profiles end the service with exit code 1 and
    advice.
    """

    async def story() -> None:
        async with service(folder, "--mig-strategy=single", node=UNEVEN) as running:
            code = await running.ended()
            told = await running.logged("cannot serve as configured", problem="mig-not-uniform")

            assert code == 1
            assert "GPU 0: 1g.10gb; GPU 1: 3g.40gb; create the same" in told["reason"]

    asyncio.run(story())


def test_an_uneven_node_advertises_nothing(folder: Path) -> None:
    """With failOnInitError=false, a node with unequal GPUs advertises nothing; /readyz says why."""

    async def story() -> None:
        options = ("--mig-strategy=single", "--fail-on-init-error=false")
        async with kubelet(folder) as node, service(folder, *options, node=UNEVEN) as running:
            await running.logged("serving metrics")
            await running.shows("gpu_sharing_node_problem", 1, problem="mig-not-uniform")
            status, body = await running.get("/readyz")

            assert status == 503
            assert json.loads(body)["problems"][0].startswith(
                "mig-not-uniform: cannot use MIG strategy"
            )
            assert (await running.get("/livez"))[0] == 200
            assert node.resources == {}

    asyncio.run(story())


def test_a_list_that_is_too_long_for_the_kubelet_is_refused(folder: Path) -> None:
    """When the list is longer than 4 MiB, the service exits and says how many devices there would
    be.
    """

    async def story() -> None:
        options = "--resource-config=gpu:gpu:40000"
        async with service(folder, options, node={"gpus": [{}, {}]}) as running:
            code = await running.ended()
            told = await running.logged("cannot serve as configured", problem="list-too-long")

            assert code == 1
            assert "80000 devices" in told["reason"]

    asyncio.run(story())


def test_replicas_are_spread_or_refused(folder: Path) -> None:
    """Under the policy spread, a container gets no two replicas of a GPU; more than there are GPUs
    is refused.
    """

    async def story() -> None:
        options = ("--resource-config=gpu:gpu:3", "--shared-devices-allocation-policy=spread")
        async with kubelet(folder) as node, service(folder, *options, node={"gpus": [{}, {}]}):
            await node.until(lambda k: k.healthy("nvidia.com/gpu") == 6)
            pod = await node.admit("pod", "nvidia.com/gpu", 2)
            with pytest.raises(AdmissionError, match="spread allows 1 per GPU"):
                await node.admit("greedy", "nvidia.com/gpu", 3)

            assert len(set(pod.envs["NVIDIA_VISIBLE_DEVICES"].split(","))) == 2

    asyncio.run(story())
