"""The node's labels get to the API server: to the node, or to a NodeFeature object."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.kubelet import Kubelet
from supervisor.cluster.label_objects import MANAGER, NFD_NODE
from supervisor.labels.schedule import api_pace
from tests.fakes import nvml_library
from tests.fakes.apiserver import ApiServer, apiserver
from tests.fakes.service import Service, kubelet, service
from tests.process.test_driver import half_installed

GPU = "nvidia.com/gpu"
COUNT, PRODUCT = f"{GPU}.count", f"{GPU}.product"
NODE: dict[str, object] = {"gpus": [{}, {}]}
WITH_MIG: dict[str, object] = {"gpus": [{}, {"mig": ["1g.10gb"]}]}
QUICK = "version: v1\nhealth: {rescanInterval: 100ms, pollInterval: 100ms}\n"
TROUBLE = "cannot write the node's labels, retrying"
FEATURE = "gpu-sharing-plugin-node-1"
GAP = api_pace("").gap
LEFT = "left labels of the node alone, because others have set them"


@contextlib.asynccontextmanager
async def started(
    folder: Path, api: ApiServer, output: str, *options: str, node: dict[str, object] = NODE
) -> AsyncIterator[tuple[Kubelet, Service]]:
    """Run the service with labels for the stand-in API server."""
    (folder / "config.yaml").write_text(QUICK)
    given = ("--node-name=node-1", f"--node-labels={output}", f"--config-file={folder}/config.yaml")
    async with (
        kubelet(folder) as asked,
        service(folder, *given, *options, node=node, environment=api.kubeconfig(folder)) as running,
    ):
        await running.logged("watching GPUs for Xid events")
        yield asked, running


def counted(api: ApiServer) -> str | None:
    """Return the number of GPUs in the node's labels."""
    return api.labels.get(COUNT)


def feature(api: ApiServer) -> dict[str, Any]:
    """Return the labels that the NodeFeature object asks for."""
    found: dict[str, Any] = api.features.get(FEATURE, {}).get("spec", {}).get("labels", {})
    return found


def test_the_node_gets_the_labels(folder: Path) -> None:
    """Labels are applied with our own manager; others' labels stay; a restart of any process
    changes nothing and writes nothing.
    """

    async def story() -> None:
        async with apiserver(labels={"zone": "a", f"{GPU}.deploy": "true"}) as api:
            async with started(folder, api, "node") as (_, running):
                await api.until("labels", lambda: counted(api) == "2")
                assert api.managed.owners[MANAGER] == {
                    key for key in api.labels if key not in {"zone", f"{GPU}.deploy"}
                }
                assert api.labels.items() >= {"zone": "a", f"{GPU}.deploy": "true"}.items()
                assert api.applied[0]["metadata"]["uid"] == "uid-of-the-node"
                await running.shows("gpu_sharing_node_labels_written", 1.0, output="node")
                before, seen = dict(api.labels), len(api.requests)
                for name in ("cluster", "monitor", "exporter"):
                    await running.restarted(name, running.kill(name))
                node = "GET /api/v1/nodes/node-1"
                await api.until("a look", lambda: node in api.requests[seen:])
                assert (api.labels, len(api.applied)) == (before, 1)
            assert api.labels == before

    asyncio.run(story())


def test_a_change_is_written_at_once(folder: Path) -> None:
    """When the labels have been right since the start, the first change is written without a wait;
    a second change waits until ten seconds are over.
    """

    async def story() -> None:
        async with apiserver() as api:
            async with started(folder, api, "node"):
                await api.until("labels", lambda: counted(api) == "2")
            async with started(folder, api, "node") as (_, running):
                loop = asyncio.get_running_loop()
                seen = len(api.requests)
                node = "GET /api/v1/nodes/node-1"
                await api.until("a look", lambda: node in api.requests[seen:])
                began = loop.time()
                running.node.remove(1)
                await api.until("one GPU", lambda: counted(api) == "1")
                first = loop.time()
                assert first - began < GAP
                running.node.add(1)
                await api.until("two GPUs", lambda: counted(api) == "2")
                assert loop.time() - first >= GAP - 1

    asyncio.run(story())


SHARED = "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 4}]}}\n"


def shared(running: Service) -> None:
    """Load a configuration that shares the GPUs."""
    (running.folder / "new.yaml").write_text(QUICK + SHARED)
    (running.folder / "new.yaml").replace(running.folder / "config.yaml")


def partitioned(running: Service) -> None:
    """Divide a GPU into MIG instances."""
    running.node.partition(1, ("1g.10gb", "1g.10gb"))


CHANGES: dict[str, tuple[Callable[[Service], None], str]] = {
    "gpu.sharing-strategy": (shared, "time-slicing"),
    "mig-1g.10gb.count": (partitioned, "2"),
}


@pytest.mark.parametrize("output", ["node", "nodefeature"])
@pytest.mark.parametrize("key", CHANGES)
def test_what_changes_is_at_the_api_server_at_once(folder: Path, output: str, key: str) -> None:
    """A MIG layout and a configuration that is loaded again are written without a wait."""
    change, value = CHANGES[key]

    async def story() -> None:
        async with apiserver() as api:

            def labels() -> dict[str, str]:
                return api.labels if output == "node" else feature(api)

            mixed = "--mig-strategy=mixed"
            async with started(folder, api, output, mixed, node=WITH_MIG):
                await api.until("labels", lambda: labels().get(COUNT) == "2")
            async with started(folder, api, output, mixed, node=WITH_MIG) as (_, running):
                await running.shows("gpu_sharing_node_labels_written", 1.0, output=output)
                began = asyncio.get_running_loop().time()
                change(running)
                await api.until(key, lambda: labels().get(f"nvidia.com/{key}") == value)
                assert asyncio.get_running_loop().time() - began < GAP

    asyncio.run(story())


def test_a_driver_that_comes_later(folder: Path, library: Path) -> None:
    """With a driver that cannot be used yet, the node keeps its labels; then they are its own."""

    async def story() -> None:
        root, environment = folder / "root", {"STANDIN_NVML_DIR": str(folder)}
        options = ("--fail-on-init-error=false", f"--driver-root-ctr-path={root}")
        given = ("--node-name=node-1", "--node-labels=node", *options)
        async with apiserver(labels={"zone": "a"}) as api:
            environment |= api.kubeconfig(folder)
            place = half_installed(root)
            async with service(folder, *given, environment=environment) as running:
                await running.logged("process is not ready")
                await running.started("cluster")
                assert api.applied == []
                place.with_suffix(".new").hardlink_to(library)
                place.with_suffix(".new").replace(place)
                gpus = str(len(nvml_library.GPU_UUIDS))
                await api.until("labels", lambda: counted(api) == gpus)
                assert api.labels["zone"] == "a"

    asyncio.run(story())


def test_others_keep_what_they_have_set(folder: Path) -> None:
    """A label that somebody has set to another value is left alone, with one log line; all others
    are written. When it is removed, it is ours.
    """

    async def story() -> None:
        async with apiserver() as api:
            await api.label(PRODUCT, "mine")
            async with started(folder, api, "node") as (_, running):
                told = await running.logged(LEFT)
                assert told["keys"] == [PRODUCT]
                assert (api.labels[PRODUCT], counted(api)) == ("mine", "2")
                await running.shows("gpu_sharing_node_labels_written", 1.0, output="node")
                await api.label(PRODUCT, None)
                await running.restarted("cluster", running.kill("cluster"))
                await api.until("our label", lambda: api.labels.get(PRODUCT, "mine") != "mine")

    asyncio.run(story())


@pytest.mark.parametrize("output", ["node", "nodefeature"])
@pytest.mark.parametrize("trouble", ["down", "hangs", "403", "409", "500"])
def test_a_broken_api_server_does_no_harm(folder: Path, output: str, trouble: str) -> None:
    """When the API server fails, this is one log line and a metric, GPUs are served, and the labels
    are written when it works again.
    """

    async def story() -> None:
        async with apiserver() as api:
            if trouble == "down":
                await api.stop()
            api.hang = trouble == "hangs"
            api.status = int(trouble) if trouble.isdecimal() else 0
            async with started(folder, api, output) as (node, running):
                told = await running.logged(TROUBLE, output=output)
                assert trouble in {"down", "hangs"} or told["reason"].startswith(trouble)
                assert trouble != "403" or "docs/cluster.md#permissions" in told["reason"]
                await running.shows("gpu_sharing_node_labels_written", 0.0, output=output)
                await node.until(lambda k: k.healthy(GPU) == 2)
                assert (node.resources[GPU].lists, node.registrations) == (1, 1)
                api.hang, api.status = False, 0
                if trouble == "down":
                    await api.start()
                await api.until("labels", lambda: counted(api) == "2" or feature(api))
                await running.shows("gpu_sharing_node_labels_written", 1.0, output=output)
                await running.logged("the node's labels are written again")
                assert running.count("the node's labels are written again") == 1
                assert running.count(TROUBLE) == 1
                assert running.count("process ended, restarting it") == 0
                assert await running.stop() == 0

    asyncio.run(story())


def test_the_node_is_gone(folder: Path) -> None:
    """A node that the API server does not know is a log line, and is never created."""

    async def story() -> None:
        async with (
            apiserver() as api,
            started(folder, api, "node", "--node-name=node-2") as (
                _,
                running,
            ),
        ):
            told = await running.logged(TROUBLE)
            assert told["reason"] == 'there is no node "node-2"; check --node-name'
            assert api.applied == []

    asyncio.run(story())


def test_a_feature_object_has_labels_and_facts(folder: Path) -> None:
    """The NodeFeature object names the node, its labels and each GPU, belongs to our pod's owner,
    follows the node, and stays when the service ends.
    """
    owner = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "gpus", "uid": "uid-1"}
    pod = {"metadata": {"name": "pod-1", "ownerReferences": [{**owner, "controller": True}]}}

    async def story() -> None:
        async with apiserver(pods={"pod-1": pod}) as api:
            async with started(folder, api, "nodefeature", "--pod-name=pod-1") as (_, running):
                await api.until("an object", lambda: feature(api))
                found = api.features[FEATURE]
                assert found["metadata"]["labels"] == {NFD_NODE: "node-1"}
                assert found["metadata"]["ownerReferences"] == [owner]
                assert found["metadata"]["namespace"] == "default"
                assert feature(api)[COUNT] == "2"
                gpus = found["spec"]["features"]["instances"]["nvidia.gpu"]["elements"]
                assert [gpu["attributes"]["index"] for gpu in gpus] == ["0", "1"]
                assert gpus[0]["attributes"].keys() >= {"uuid", "model", "memory", "pci"}
                seen = len(api.requests)
                await running.restarted("cluster", running.kill("cluster"))
                reads = (
                    f"GET /apis/nfd.k8s-sigs.io/v1alpha1/namespaces/default/nodefeatures/{FEATURE}"
                )
                await api.until("a look", lambda: reads in api.requests[seen:])
                assert len(api.applied) == 1
                running.node.remove(1)
                await api.until("one GPU", lambda: feature(api)[COUNT] == "1")
            assert feature(api)[COUNT] == "1"
            assert api.labels == {}

    asyncio.run(story())


def test_without_the_right_to_read_the_pod(folder: Path) -> None:
    """Without our pod's owner the object is written all the same, with one log line."""

    async def story() -> None:
        async with (
            apiserver(forbidden="/pods/") as api,
            started(folder, api, "nodefeature", "--pod-name=pod-1") as (_, running),
        ):
            await api.until("an object", lambda: feature(api))
            assert "ownerReferences" not in api.features[FEATURE]["metadata"]
            await running.logged(
                "cannot read our own pod, so the NodeFeature object stays when it is removed"
            )
            assert running.count(TROUBLE) == 0

    asyncio.run(story())
