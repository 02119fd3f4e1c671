"""Fixtures of the end-to-end tests: containerd, a kubelet with an empty root, the plugin.

They need `scripts/e2e`, which provides the kubelet and a namespace with its own /var/lib/kubelet,
and in which no process outlives the tests.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, Protocol

import pytest

from tests.e2e.apiserver import KUBECTL, ApiServer
from tests.e2e.containerd import Containerd
from tests.e2e.kubelet import ROOT, Kubelet
from tests.e2e.plugin import Plugin
from tests.e2e.plugin_image import write_archive


class StartPlugin(Protocol):
    """A function that starts the command under test with a node file and further flags."""

    def __call__(self, node_file: Path, *flags: str) -> Plugin:
        """Return the running plugin."""


@pytest.fixture(scope="session")
def kubelet_binary() -> Path:
    """Return the path of the kubelet that `scripts/e2e` built."""
    binary = os.environ.get("E2E_KUBELET")
    if not binary:
        pytest.skip("needs what scripts/e2e sets up")
    # The kubelet fixture empties this folder, so it must never be a real node's.
    assert list(ROOT.iterdir()) == []
    return Path(binary)


@pytest.fixture(scope="session", autouse=True)
def _terminable() -> Iterator[None]:
    """Handle SIGTERM as Ctrl-C, so that the fixtures stop the processes that they started."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def containerd(
    kubelet_binary: Path,  # noqa: ARG001  (without it there is no use in a containerd)
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Containerd]:
    """Run one containerd for all tests."""
    containerd = Containerd(tmp_path_factory.mktemp("containerd"))
    yield containerd
    containerd.stop()


@pytest.fixture
def kubelet(
    kubelet_binary: Path, containerd: Containerd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kubelet]:
    """Run a kubelet without any earlier state."""
    kubelet = Kubelet(kubelet_binary, containerd, tmp_path_factory.mktemp("kubelet"))
    yield kubelet
    kubelet.show_log()
    kubelet.clear()


@pytest.fixture
def plugin(
    kubelet: Kubelet,  # noqa: ARG001  (the kubelet's folder must be there first)
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[StartPlugin]:
    """Start the command under test: `plugin(node_file, *flags)`."""
    started: list[Plugin] = []

    def start(node_file: Path, *flags: str) -> Plugin:
        started.append(Plugin(tmp_path_factory.mktemp("plugin"), node_file, *flags))
        return started[-1]

    yield start
    for each in started:
        each.clean_up()


@pytest.fixture(scope="session")
def archive(
    kubelet_binary: Path,  # noqa: ARG001  (without it there is no use in an image)
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Build the plugin's image once, and write it to a file, under the manifest's name."""
    return write_archive(tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Run one API server for all tests; each test must leave it as it was."""
    binaries = os.environ.get("E2E_APISERVER")
    if not binaries or not KUBECTL.exists():
        pytest.skip("needs what scripts/e2e sets up")
    server = ApiServer(Path(binaries), tmp_path_factory.mktemp("apiserver"))
    yield server
    server.stop()
