"""What containers get from a real kubelet: shared GPUs, MIG instances, mounts and device nodes."""

import os
import stat
from pathlib import Path

import pytest

from tests.e2e.conftest import StartPlugin
from tests.e2e.kubelet import Kubelet
from tests.e2e.plugin import Plugin

pytestmark = pytest.mark.e2e

GPU = "GPU-11111111-1111-1111-1111-111111111111"
ONE_GPU = f"gpus:\n  - uuid: {GPU}\n"
MIG = f"gpus:\n  - uuid: {GPU}\n    mig: [1g.10gb, 1g.10gb]\n"
MOUNTS = "/var/run/nvidia-container-devices"

LIST_MOUNTS = (
    f'cd {MOUNTS}; set -- *; IFS=,; echo "devices=$NVIDIA_VISIBLE_DEVICES,$*"; exec sleep 3600'
)
LIST_NODES = 'set -- /dev/nvidia*; IFS=,; echo "devices=$*"; exec sleep 3600'


def started(
    kubelet: Kubelet, plugin: StartPlugin, node_file: Path, resource: str, count: int, *flags: str
) -> Plugin:
    """Start the plugin and wait until the kubelet has *count* Healthy devices of *resource*."""
    running = plugin(node_file, *flags)
    running.wait_until(
        lambda: len(kubelet.healthy_devices(resource)) == count, f"{count} of {resource}"
    )
    return running


@pytest.fixture
def node_file(tmp_path: Path) -> Path:
    """Write a node file with one GPU."""
    path = tmp_path / "node.yaml"
    path.write_text(ONE_GPU)
    return path


def test_two_pods_share_a_gpu(kubelet: Kubelet, plugin: StartPlugin, node_file: Path) -> None:
    """Two pods with one replica each run on the same GPU, and the kubelet gave them different
    replicas.
    """
    shared = "nvidia.com/sharedgpu"
    started(kubelet, plugin, node_file, shared, 4, "--resource-config=gpu:sharedgpu:4")
    held = set()
    for name in ("first", "second"):
        kubelet.run_pod(name, shared, 1)
        kubelet.wait_for_phase(name, "Running")
        assert kubelet.visible_devices(name) == {GPU}
        held |= kubelet.allocated(name)[shared]

    assert len(held) == 2
    assert held < {f"{GPU}::{number}" for number in range(4)}


def test_a_pod_gets_a_mig_instance(kubelet: Kubelet, plugin: StartPlugin, node_file: Path) -> None:
    """Under strategy mixed, a pod asks for a profile and sees exactly one MIG instance."""
    node_file.write_text(MIG)
    resource = "nvidia.com/mig-1g.10gb"
    started(kubelet, plugin, node_file, resource, 2, "--mig-strategy=mixed")
    kubelet.run_pod("sliced", resource, 1)
    kubelet.wait_for_phase("sliced", "Running")
    visible = kubelet.visible_devices("sliced")

    assert visible == kubelet.allocated("sliced")[resource]
    assert visible < kubelet.healthy_devices(resource)
    assert all(device.startswith("MIG-") for device in visible)


def test_a_container_has_its_device_as_a_mount(
    kubelet: Kubelet, plugin: StartPlugin, node_file: Path
) -> None:
    """With volume-mounts, the container finds a file named after its GPU in the agreed folder."""
    flags = "--device-list-strategy=volume-mounts"
    started(kubelet, plugin, node_file, "nvidia.com/gpu", 1, flags)
    kubelet.run_pod("mounted", "nvidia.com/gpu", 1, LIST_MOUNTS)
    kubelet.wait_for_phase("mounted", "Running")

    assert kubelet.visible_devices("mounted") == {MOUNTS, GPU}


def test_a_container_has_the_device_nodes(
    kubelet: Kubelet, plugin: StartPlugin, node_file: Path, tmp_path: Path
) -> None:
    """With pass-device-specs, the container has its GPU's device node and the driver's, and no
    other.
    """
    (tmp_path / "root/dev").mkdir(parents=True)
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        # The null device's numbers, because only the paths are tested.
        os.mknod(tmp_path / "root/dev" / name, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    root = tmp_path / "root"
    flags = ("--pass-device-specs", f"--driver-root-ctr-path={root}", f"--nvidia-dev-root={root}")
    started(kubelet, plugin, node_file, "nvidia.com/gpu", 1, *flags)
    kubelet.run_pod("nodes", "nvidia.com/gpu", 1, LIST_NODES)
    kubelet.wait_for_phase("nodes", "Running")

    assert kubelet.visible_devices("nodes") == {
        "/dev/nvidia0",
        "/dev/nvidia-uvm",
        "/dev/nvidiactl",
    }
