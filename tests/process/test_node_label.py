"""The node's label chooses the configuration file, at the start and while the service runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from simulator.kubelet import Kubelet
from tests.fakes.apiserver import ApiServer, apiserver
from tests.fakes.service import Service, kubelet, service

GPU, LABEL = "nvidia.com/gpu", "nvidia.com/device-plugin.config"
NODE: dict[str, object] = {"gpus": [{}, {}]}
SHARING = "version: v1\nsharing: {{timeSlicing: {{resources: [{{name: gpu, replicas: {}}}]}}}}\n"
NEW, OLD = "applying the new configuration", "cannot use the new configuration, keeping the old one"
TROUBLE = "cannot use the Kubernetes API"
LISTED = "the device list for the kubelet is ready"
WAITING = "configuration not final yet: waiting for the node's label from the API server"


@pytest.fixture
def configurations(folder: Path) -> Path:
    """Make a folder with three configuration files: one, two and three devices per GPU."""
    path = folder / "configurations"
    path.mkdir()
    (path / "one").write_text("version: v1\n")
    (path / "two").write_text(SHARING.format(2))
    (path / "three").write_text(SHARING.format(3))
    return path


@contextlib.asynccontextmanager
async def started(
    folder: Path, api: ApiServer, *options: str
) -> AsyncIterator[tuple[Kubelet, Service]]:
    """Run the service on a node of two GPUs; without a label it uses the first file."""
    arguments = (
        "--node-name=node-1",
        f"--config-dir={folder}/configurations",
        "--config-default=one",
        *options,
    )
    environment = api.kubeconfig(folder)
    async with (
        kubelet(folder) as node,
        service(folder, *arguments, node=NODE, environment=environment) as running,
    ):
        yield node, running


def count(node: Kubelet) -> int:
    """Return how many devices are listed."""
    return len(node.resources[GPU].devices) if GPU in node.resources else 0


def test_the_label_chooses(folder: Path, configurations: Path) -> None:
    """A changed label, and a change of the chosen file, take effect without a restart."""

    async def story() -> None:
        async with (
            apiserver(labels={LABEL: "two"}) as api,
            started(folder, api) as (node, running),
        ):
            await node.until(lambda k: count(k) == 4)
            await running.ready()
            # The first list already had the label's configuration.
            assert node.resources[GPU].lists == 1
            pids = running.pids()
            await api.label(LABEL, "three")
            await node.until(lambda k: count(k) == 6)
            (configurations / "new").write_text(SHARING.format(4))
            (configurations / "new").replace(configurations / "three")
            await node.until(lambda k: count(k) == 8)
            await api.label(LABEL, None)
            await node.until(lambda k: count(k) == 2)
            assert (running.pids(), node.registrations) == (pids, 1)
            assert await running.stop() == 0

    asyncio.run(story())


def test_an_unknown_label_changes_nothing(folder: Path, configurations: Path) -> None:
    """A label without a file is logged and changes nothing, until the file exists."""

    async def story() -> None:
        async with (
            apiserver(labels={LABEL: "two"}) as api,
            started(folder, api) as (node, running),
        ):
            await node.until(lambda k: count(k) == 4)
            await api.label(LABEL, "five")
            told = await running.logged(OLD)
            assert 'label "five"' in told["reason"]
            assert "one, three, two" in told["reason"]
            assert count(node) == 4
            (configurations / "five").write_text(SHARING.format(5))
            await node.until(lambda k: count(k) == 10)
            await api.label(LABEL, "two")
            await node.until(lambda k: count(k) == 4)
            assert running.count(OLD) == 1

    asyncio.run(story())


@pytest.mark.usefixtures("configurations")
def test_a_watch_that_ends_is_resumed(folder: Path) -> None:
    """An expired watch, a closed connection and a killed cluster process lose no label change."""

    async def story() -> None:
        async with apiserver() as api, started(folder, api) as (node, running):
            await node.until(lambda k: count(k) == 2)
            api.gone = True
            await api.label(LABEL, "two")
            await node.until(lambda k: count(k) == 4)
            await running.logged(TROUBLE, use="label")
            await api.stop()
            await api.start()
            await api.label(LABEL, "three")
            await node.until(lambda k: count(k) == 6)
            await running.restarted("cluster", running.kill("cluster"))
            await api.label(LABEL, "two")
            await node.until(lambda k: count(k) == 4)
            assert node.registrations == 1

    asyncio.run(story())


@pytest.mark.usefixtures("configurations")
def test_a_start_without_the_api_server(folder: Path) -> None:
    """After ten seconds without the API server the default file is used, and later the label's."""

    async def story() -> None:
        async with apiserver(labels={LABEL: "two"}) as api:
            await api.stop()
            async with started(folder, api) as (node, running):
                await running.logged(WAITING)
                await running.logged(TROUBLE, use="label")
                assert "monitor" not in running.pids()
                await node.until(lambda k: count(k) == 2)
                await running.ready()
                _, status = await running.get("/status")
                assert "cannot read the node's label" in status
                await api.start()
                # The process would retry by itself, but by now only after a long wait.
                running.kill("cluster")
                await node.until(lambda k: count(k) == 4)

    asyncio.run(story())


@pytest.mark.usefixtures("configurations")
def test_a_start_with_an_api_server_that_answers(folder: Path) -> None:
    """When the API server answers at once, the label's file is the only one that is used."""

    async def story() -> None:
        async with apiserver(labels={LABEL: "two"}) as api, started(folder, api) as (node, running):
            await node.until(lambda k: count(k) == 4)
            await running.ready()
            lists = [entry for entry in running.entries if entry["message"] == LISTED]
            assert [entry["devices"] for entry in lists] == [4]

    asyncio.run(story())


@pytest.mark.usefixtures("configurations")
def test_a_start_without_the_right_to_read_the_node(folder: Path) -> None:
    """When the API server forbids it, the warning says 403 and names RBAC."""

    async def story() -> None:
        async with apiserver(labels={LABEL: "two"}) as api:
            api.status = 403
            async with started(folder, api) as (_, running):
                told = await running.logged(TROUBLE, use="label")
                assert "by RBAC" in told["reason"]
                told = await running.logged(WAITING)
                assert told["reason"].startswith("cannot read the node's label: ")

    asyncio.run(story())


@pytest.mark.usefixtures("configurations")
def test_without_a_node_name_the_default_is_used(folder: Path) -> None:
    """Without a node name the default file is used at once; no request goes to the API server."""

    async def story() -> None:
        async with apiserver() as api:
            options = ("--node-name=", "--config-default=three")
            async with started(folder, api, *options) as (node, running):
                await node.until(lambda k: count(k) == 6)
                assert "cluster" not in running.pids()
                assert not api.requests

    asyncio.run(story())
