"""What the API server tells of DRA, before a pod gets a GPU twice."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.fakes.apiserver import apiserver
from tests.fakes.service import Service, until
from tests.process.test_cluster import GPU, UUIDS, started

PROBLEM = "offered-by-dra"


def slice_of(node: str, uuid: str) -> dict[str, Any]:
    """Return a ResourceSlice of a node with one GPU."""
    device = {"name": "gpu-0", "attributes": {"uuid": {"string": uuid}}}
    return {"spec": {"driver": "gpu.nvidia.com", "nodeName": node, "devices": [device]}}


async def shown(running: Service) -> dict[str, Any]:
    """Return what /status says of the node."""
    code, body = await running.get("/status")
    found: dict[str, Any] = json.loads(body)["node"] if code == 200 else {}
    return found


def test_a_driver_offers_our_gpus(folder: Path) -> None:
    """The log, the status and a metric name it after the first look; the GPUs stay Healthy."""

    async def story() -> None:
        async with apiserver() as api:
            api.dra.slices = [slice_of("other", UUIDS[0]), slice_of("node-1", UUIDS[1])]
            api.dra.classes = [
                {"metadata": {"name": "gpu.nvidia.com"}, "spec": {"extendedResourceName": GPU}}
            ]
            async with started(folder, api, "--dra-check") as (node, running):
                await running.logged("a DRA driver offers GPUs that are advertised here")
                await running.shows("gpu_sharing_node_problem", 1, problem=PROBLEM)

                async def is_told() -> bool:
                    told = await shown(running)
                    kinds = [problem["kind"] for problem in told.get("problems") or ()]
                    notices = told.get("notices") or [""]
                    return kinds == [PROBLEM] and f"request {GPU} (DeviceClass" in notices[0]

                await until(is_told, f"{PROBLEM} in the status")
                assert node.healthy(GPU) == 2
                # At the start, and not again soon: it is one of many nodes.
                lists = [request for request in api.requests if "resource.k8s.io" in request]
                assert len(lists) == 2

    asyncio.run(story())


def test_a_cluster_without_dra(folder: Path) -> None:
    """Where the API server does not know DRA, nothing is told, and nothing is wrong."""

    async def story() -> None:
        async with apiserver() as api:
            api.dra.served = False
            async with started(folder, api, "--dra-check") as (_, running):
                asked = "GET /apis/resource.k8s.io/v1/resourceslices"
                await api.until("list", lambda: asked in api.requests)
                await running.ready()
                assert (await shown(running))["problems"] == []
                assert [e for e in running.entries if e["level"] in {"warning", "error"}] == []

    asyncio.run(story())
