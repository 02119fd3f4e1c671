"""Whose the processes on a GPU are, by the real /proc, control groups and log folders."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import StartPlugin
from tests.e2e.containerd import Containerd
from tests.e2e.daemon import processes, wait_until
from tests.e2e.kubelet import POD_RESOURCES_SOCKET, Kubelet
from tests.e2e.plugin import Plugin
from tests.e2e.prometheus import Prometheus, tool
from tests.e2e.test_prometheus import prometheus

pytestmark = pytest.mark.e2e

CGROUPS = Path("/sys/fs/cgroup")
ROOT = "k8s.io"
"""Control groups below it are removed by scripts/e2e."""

SHARED = "nvidia.com/sharedgpu"
UUID = "GPU-00000000-0000-0000-0000-000000000000"
QUICK = "version: v1\nhealth: {pollInterval: 200ms}\nusage: {interval: 1s}\n"
POD = 'exported_namespace="default", exported_container="main"'
MIB = 1 << 20


def hierarchies() -> list[Path]:
    """Return the folders of all control group hierarchies; with version 2 there is only one."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    return [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists()]


@pytest.fixture
def own_cgroup() -> Path:
    """Make the control group of all pods, and one for the plugin, which is returned."""
    plain = next(path for path in hierarchies() if path in {CGROUPS, CGROUPS / "systemd"})
    own = plain / ROOT / "plugin"
    try:
        for path in (*(path / ROOT for path in hierarchies()), own):
            path.mkdir(exist_ok=True)
    except OSError as error:
        pytest.skip(f"cannot make control groups: {error}")
    return own


@pytest.fixture
def kubelet(
    kubelet_binary: Path,
    containerd: Containerd,
    own_cgroup: Path,  # noqa: ARG001 - the control groups must be there first
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Kubelet]:
    """Run a kubelet that makes control groups for pods."""
    folder = tmp_path_factory.mktemp("kubelet")
    kubelet = Kubelet(kubelet_binary, containerd, folder, f"/{ROOT}")
    yield kubelet
    kubelet.show_log()
    kubelet.clear()


@pytest.fixture
def running(plugin: StartPlugin, kubelet: Kubelet, own_cgroup: Path, tmp_path: Path) -> Plugin:
    """Run the plugin in a control group of its own, with one GPU that two containers can share."""
    node, configuration = tmp_path / "node.yaml", tmp_path / "config.yaml"
    node.write_text(json.dumps({"gpus": [{}]}))
    configuration.write_text(QUICK)
    running = plugin(
        node,
        "--resource-config=gpu:sharedgpu:2",
        f"--config-file={configuration}",
        f"--pod-resources-socket={POD_RESOURCES_SOCKET}",
    )
    running.wait_until(lambda: len(kubelet.healthy_devices(SHARED)) == 2, "2 replicas")
    running.move_to(own_cgroup)
    return running


def started(kubelet: Kubelet, name: str, resource: str, count: int, seconds: int) -> int:
    """Start a pod that sleeps so many seconds, and return the PID of its process on the node."""
    kubelet.run_pod(name, resource, count, f"exec sleep {seconds}")
    kubelet.wait_for_phase(name, "Running")

    def pid() -> int | None:
        return next((p for p, c in processes().items() if c == f"sleep {seconds}"), None)

    return wait_until(pid, 60, f"the process of {name}")


def use(running: Plugin, pid: int, mib: int) -> None:
    """Let the simulated driver name this process as a user of the GPU."""
    words = (f"--pid={pid}", f"--memory={mib}", "--utilization=10", "--gpu=0")
    running.drill("usage", *words)


def is_one(server: Prometheus, query: str, pod: str, mib: int) -> bool:
    """Return whether the only series of the *query* is this pod's, with this value."""
    found = server.query(query)
    return [(s.labels.get("exported_pod"), s.value) for s in found] == [(f"{pod}-e2e", mib * MIB)]


def test_prometheus_knows_which_pod_uses_most_of_a_gpu(
    kubelet: Kubelet, running: Plugin, tmp_path: Path
) -> None:
    """The process of each container is that pod's; one that holds nothing is flagged; the process
    of the host is the host's.
    """
    tool("prometheus")
    use(running, started(kubelet, "modest", SHARED, 1, 7001), 1000)
    use(running, started(kubelet, "hungry", SHARED, 1, 7002), 3000)
    use(running, started(kubelet, "stray", "memory", 64 * MIB, 7003), 500)
    use(running, os.getpid(), 200)
    most = f'topk(1, gpu_sharing_container_memory_used_bytes{{uuid="{UUID}", {POD}}})'
    stray = f'gpu_sharing_unallocated_memory_used_bytes{{uuid="{UUID}", {POD}}}'
    host = f'gpu_sharing_host_memory_used_bytes{{uuid="{UUID}"}}'
    with prometheus(tmp_path, running.url()) as server:
        running.wait_until(lambda: is_one(server, most, "hungry", 3000), "hungry uses most")
        running.wait_until(lambda: is_one(server, stray, "stray", 500), "stray is flagged")
        running.wait_until(
            lambda: [s.value for s in server.query(host)] == [200 * MIB], "the host's process"
        )
        use(running, os.getpid(), 0)
        kubelet.remove("hungry")
        running.wait_until(lambda: is_one(server, most, "modest", 1000), "modest uses most")
