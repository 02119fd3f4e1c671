"""The main features with a real kubelet: capacity, pods, faults, restarts, a clean stop."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import StartPlugin
from tests.e2e.daemon import wait_until
from tests.e2e.kubelet import PLUGIN_FOLDER, POD_RESOURCES_SOCKET, ROOT, Kubelet
from tests.e2e.plugin import Plugin

pytestmark = pytest.mark.e2e

RESOURCE = "nvidia.com/gpu"
GPUS = (
    "GPU-11111111-1111-1111-1111-111111111111",
    "GPU-22222222-2222-2222-2222-222222222222",
)
NODE = "gpus:\n" + "".join(f"  - uuid: {uuid}\n" for uuid in GPUS)


@pytest.fixture
def node_file(tmp_path: Path) -> Path:
    """Write a node file with two GPUs."""
    node_file = tmp_path / "node.yaml"
    node_file.write_text(NODE)
    return node_file


@pytest.fixture
def running(kubelet: Kubelet, plugin: StartPlugin, node_file: Path) -> Plugin:
    """Start the plugin on that node and wait until the kubelet has both GPUs."""
    running = plugin(node_file)
    running.wait_until(
        lambda: kubelet.healthy_devices(RESOURCE) == set(GPUS), "the kubelet counts both GPUs"
    )
    return running


@pytest.mark.usefixtures("running")
def test_the_kubelet_counts_both_gpus(kubelet: Kubelet) -> None:
    """With two GPUs, a pod that asks for three is refused, and a pod that asks for two runs."""
    kubelet.run_pod("three", RESOURCE, 3)
    refused = kubelet.wait_for_phase("three", "Failed")
    assert refused.reason == "UnexpectedAdmissionError"
    assert "Requested: 3, Available: 2" in refused.message
    kubelet.run_pod("two", RESOURCE, 2)
    kubelet.wait_for_phase("two", "Running")
    assert kubelet.visible_devices("two") == set(GPUS)


@pytest.mark.usefixtures("running")
def test_a_pod_gets_the_gpu_that_pod_resources_reports(kubelet: Kubelet) -> None:
    """A pod that asks for one GPU sees exactly the GPU that pod resources reports for it."""
    kubelet.run_pod("one", RESOURCE, 1)
    kubelet.wait_for_phase("one", "Running")
    visible = kubelet.visible_devices("one")
    assert len(visible) == 1
    assert visible < set(GPUS)
    assert kubelet.allocated("one") == {RESOURCE: visible}


def test_no_pod_gets_a_gpu_with_a_fatal_xid(kubelet: Kubelet, running: Plugin) -> None:
    """After an Xid 79, the kubelet no longer counts the GPU and refuses a pod that needs it."""
    kubelet.run_pod("first", RESOURCE, 1)
    kubelet.wait_for_phase("first", "Running")
    held = kubelet.allocated("first")[RESOURCE]
    (free,) = set(GPUS) - held
    running.drill("xid", "79", "--gpu", str(GPUS.index(free)))
    kubelet.wait_for_devices(RESOURCE, held)
    kubelet.run_pod("second", RESOURCE, 1)
    refused = kubelet.wait_for_phase("second", "Failed")
    assert refused.reason == "UnexpectedAdmissionError"
    assert "Requested: 1, Available: 0" in refused.message
    first = kubelet.pod("first")
    assert first is not None
    assert first.phase == "Running"


@pytest.mark.usefixtures("running")
def test_a_restarted_kubelet_gets_the_gpus_again(kubelet: Kubelet) -> None:
    """After a kubelet restart, a running pod keeps its GPU and a new pod gets the other one."""
    kubelet.run_pod("before", RESOURCE, 1)
    kubelet.wait_for_phase("before", "Running")
    held = kubelet.allocated("before")
    listed = kubelet.listed_at()
    kubelet.stop()
    kubelet.start()
    kubelet.wait_for_devices(RESOURCE, set(GPUS), since=listed)
    assert kubelet.registrations(RESOURCE) == 1
    kubelet.wait_for_phase("before", "Running")
    assert kubelet.allocated("before") == held
    kubelet.run_pod("after", RESOURCE, 1)
    kubelet.wait_for_phase("after", "Running")
    assert kubelet.allocated("after") == {RESOURCE: set(GPUS) - held[RESOURCE]}


def test_a_killed_worker_registers_again(kubelet: Kubelet, running: Plugin) -> None:
    """A killed worker registers again: an old pod keeps its GPU, a new pod gets the other one."""
    kubelet.run_pod("before", RESOURCE, 1)
    kubelet.wait_for_phase("before", "Running")
    listed = kubelet.listed_at()
    killed = running.kill_worker(RESOURCE)
    kubelet.wait_for_devices(RESOURCE, set(GPUS), since=listed)
    assert kubelet.registrations(RESOURCE) == 2
    assert running.worker(RESOURCE) not in (None, killed)
    kubelet.run_pod("after", RESOURCE, 1)
    kubelet.wait_for_phase("after", "Running")
    kubelet.wait_for_phase("before", "Running")
    visible = kubelet.visible_devices("before") | kubelet.visible_devices("after")
    assert visible == set(GPUS)


def test_a_plugin_started_after_a_crash_serves_again(
    kubelet: Kubelet, plugin: StartPlugin, running: Plugin, node_file: Path
) -> None:
    """After a crash of the supervisor its children end, and a new plugin serves despite the old
    socket.
    """
    listed = kubelet.listed_at()
    running.kill()
    wait_until(lambda: not running.orphans(), 5, "the children of a dead supervisor end")
    plugin(node_file)
    kubelet.wait_for_devices(RESOURCE, set(GPUS), since=listed)
    kubelet.run_pod("next", RESOURCE, 1)
    kubelet.wait_for_phase("next", "Running")


def test_a_stopped_plugin_leaves_nothing(kubelet: Kubelet, running: Plugin) -> None:
    """A stopped plugin exits with code 0 and removes its socket, and then no pod gets a GPU."""
    assert (PLUGIN_FOLDER / "nvidia-gpu.sock").is_socket()
    assert running.stop() == 0
    assert [path.name for path in PLUGIN_FOLDER.glob("nvidia*")] == []
    assert running.orphans() == {}
    kubelet.run_pod("late", RESOURCE, 1)
    refused = kubelet.wait_for_phase("late", "Failed")
    assert refused.reason == "UnexpectedAdmissionError"


AS_NOBODY = """
import os, socket, sys

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with socket.socket(socket.AF_UNIX) as end:
    try:
        end.connect(sys.argv[1])
    except OSError as error:
        sys.exit(error.strerror)
"""


@pytest.mark.usefixtures("kubelet")
def test_only_root_reads_pod_resources() -> None:
    """Another user cannot ask the kubelet which pod holds a device, even if every folder above the
    socket is open to all: this is why the exporter runs as root.
    """
    folders = (ROOT, POD_RESOURCES_SOCKET.parent)
    modes = {folder: folder.stat().st_mode for folder in folders}
    command = [sys.executable, "-c", AS_NOBODY, str(POD_RESOURCES_SOCKET)]
    for folder in folders:
        folder.chmod(0o755)
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)
    shown = {str(path): oct(path.stat().st_mode) for path in (*folders, POD_RESOURCES_SOCKET)}

    assert (done.returncode, done.stderr) == (1, "Permission denied\n"), shown
    assert modes[POD_RESOURCES_SOCKET.parent] & 0o007 == 0
