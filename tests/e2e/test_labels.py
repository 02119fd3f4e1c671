"""The node's labels on a real API server, which keeps whose they are."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.cluster import label_objects
from supervisor.cluster.apiserver import ApiServer as Requests
from supervisor.cluster.connection import TroubleError
from supervisor.cluster.label_objects import MANAGER
from tests.e2e.apiserver import ApiServer
from tests.fakes import nodefeature
from tests.fakes.service import COMMAND, Service, service, short_folder, until

pytestmark = pytest.mark.e2e

GPU = "nvidia.com/gpu"
COUNT, PRODUCT = f"{GPU}.count", f"{GPU}.product"
NODE: dict[str, object] = {"gpus": [{}, {}]}
QUICK = "version: v1\nhealth: {rescanInterval: 100ms, pollInterval: 100ms}\n"
NAME = "gpus"


@pytest.fixture
def folder() -> Iterator[Path]:
    """Make a new folder with a short path."""
    with short_folder() as path:
        (path / "config.yaml").write_text(QUICK)
        yield path


@contextlib.asynccontextmanager
async def running(server: ApiServer, folder: Path, *options: str) -> AsyncIterator[Service]:
    """Run the service with these options for the API server."""
    given = (f"--node-name={NAME}", f"--config-file={folder}/config.yaml", *options)
    environment = {"KUBECONFIG": str(server.kubeconfig)}
    async with service(folder, *given, node=NODE, environment=environment) as found:
        yield found


def labels(server: ApiServer) -> dict[str, str]:
    """Return the labels of the node."""
    (node,) = server.get("nodes", f"--field-selector=metadata.name={NAME}")
    found: dict[str, str] = node["metadata"].get("labels", {})
    return found


def remove(server: ApiServer, *options: str) -> str:
    """Run `labels --remove`, and return what it prints."""
    command = [*COMMAND, "labels", "--remove", f"--node-name={NAME}", *options]
    environment = {**os.environ, "KUBECONFIG": str(server.kubeconfig)}
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env=environment
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_node_gets_and_loses_the_labels(server: ApiServer, folder: Path) -> None:
    """Labels of the node are applied as ours, follow the node, leave a person's labels alone, stay
    after the end and are removed by the command, which leaves all others.
    """

    async def story() -> None:
        async with running(server, folder, "--node-labels=node") as found:
            await until(lambda: labels(server).get(COUNT) == "2", "labels")
            assert labels(server)["zone"] == "a"
            assert labels(server)[PRODUCT] == "mine"
            told = await found.logged("left labels of the node alone, because others have set them")
            assert told["keys"] == [PRODUCT]
            found.node.remove(1)
            await until(lambda: labels(server).get(COUNT) == "1", "the new number of GPUs")
            assert await found.stop() == 0
        assert labels(server)[COUNT] == "1"

    with server.node(NAME, {}):
        server.kubectl("label", "node", NAME, "zone=a", f"{PRODUCT}=mine")
        asyncio.run(story())
        (found,) = server.get("nodes", "--show-managed-fields")
        managers = {entry["manager"] for entry in found["metadata"]["managedFields"]}
        assert MANAGER in managers
        assert NAME in remove(server, "--node-labels=node")
        assert {k: v for k, v in labels(server).items() if GPU in k} == {PRODUCT: "mine"}
        assert labels(server)["zone"] == "a"
        assert remove(server, "--node-labels=node").startswith("nothing to remove")


def test_a_node_that_is_gone_is_not_created(server: ApiServer, folder: Path) -> None:
    """The service says that there is no such node, and creates none."""

    async def story() -> None:
        async with running(server, folder, "--node-labels=node") as found:
            told = await found.logged("cannot write the node's labels, retrying")
            assert told["reason"] == f'there is no node "{NAME}"; check --node-name'

    asyncio.run(story())
    assert server.get("nodes") == []


def test_what_the_server_says_of_a_conflict(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conflict names the label that somebody else has set, and costs the other labels nothing; a
    node that was deleted after it was read is not created.
    """
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig))

    async def apply(uid: str, **ours: str) -> None:
        found = {"metadata": {"name": NAME, "uid": uid}}
        wanted = label_objects.node(found, {f"{GPU}.{key}": value for key, value in ours.items()})
        requests = Requests(NAME)
        try:
            await requests.apply(wanted, MANAGER)
        finally:
            await requests.close()

    with server.node(NAME, {}) as shown:
        uid = shown()["metadata"]["uid"]
        server.kubectl("label", "node", NAME, f"{PRODUCT}=mine")
        with pytest.raises(TroubleError) as caught:
            asyncio.run(apply(uid, product="ours", count="2"))
        assert caught.value.code == 409
        ours = {PRODUCT: "ours", COUNT: "2"}
        assert label_objects.contested(caught.value.conflicts, ours) == {PRODUCT}
        asyncio.run(apply(uid, count="2"))
        assert labels(server)[COUNT] == "2"
    with pytest.raises(TroubleError):
        asyncio.run(apply(uid, count="2"))
    assert server.get("nodes") == []


def test_the_server_takes_the_feature_object(server: ApiServer, folder: Path) -> None:
    """The server, which has NFD's kind, keeps each field of the object, takes the changes, and
    deletes it on command.
    """

    def spec() -> dict[str, Any]:
        found = server.get("nodefeatures")
        return dict(found[0]["spec"]) if found else {}

    def counted() -> str:
        return str(spec().get("labels", {}).get(COUNT))

    async def story() -> None:
        async with running(server, folder, "--node-labels=nodefeature") as found:
            await until(lambda: counted() == "2", "an object")
            (stored,) = server.get("nodefeatures")
            assert stored["metadata"]["labels"] == {label_objects.NFD_NODE: NAME}
            instances = spec()["features"]["instances"]["nvidia.gpu"]["elements"]
            assert [gpu["attributes"]["index"] for gpu in instances] == ["0", "1"]
            assert instances[0]["attributes"].keys() >= {"uuid", "model", "memory", "pci"}
            found.node.remove(1)
            await until(lambda: counted() == "1", "the new number of GPUs")
            assert len(spec()["features"]["instances"]["nvidia.gpu"]["elements"]) == 1
            assert await found.stop() == 0

    server.kubectl("apply", f"--filename={nodefeature.DEFINITION}")
    kind = "crd/nodefeatures.nfd.k8s-sigs.io"
    server.kubectl("wait", "--for=condition=established", kind, "--timeout=30s")
    try:
        asyncio.run(story())
        assert "gpu-sharing-plugin-gpus" in remove(server, "--node-labels=nodefeature")
        assert server.get("nodefeatures") == []
        assert remove(server, "--node-labels=nodefeature").startswith("nothing to remove")
    finally:
        server.kubectl("delete", kind)
