"""docs/install.md, followed to the letter on a whole cluster: image, pod, a broken GPU."""

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.cluster import node_taint
from supervisor.cluster.node_condition import UNHEALTHY as CONDITION
from tests.e2e.cluster import Cluster, own_network
from tests.e2e.daemon import wait_until
from tests.e2e.images import IMAGE
from tests.e2e.kubelet import NODE
from tests.e2e.plugin_image import REPOSITORY
from tests.fakes.helm import CHART, newest

pytestmark = pytest.mark.e2e

PAGE = (REPOSITORY / "docs/install.md").read_text()
GPU = "nvidia.com/gpu"
COLUMNS = "NODE:.metadata.name,ALLOCATABLE:.status.allocatable"
PATIENCE = 60


STATE = Path("/var/lib/gpu-sharing-plugin")
"""The tests' own, as scripts/e2e mounts it."""


@pytest.fixture(scope="module")
def running(
    archive: Path, kubelet_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Run a cluster with the plugin's image on its node, and busybox under its usual name."""
    folders = os.environ["E2E_APISERVER"], os.environ["E2E_CONTROLLERS"]
    apiserver, controllers = (Path(folder) for folder in folders)
    with own_network():
        folder = tmp_path_factory.mktemp("cluster")
        cluster = Cluster(apiserver, kubelet_binary, controllers, folder)
        try:
            cluster.containerd.load(archive)
            cluster.containerd.tag(IMAGE, "docker.io/library/busybox:1.36")
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """Give each test a cluster without pods, whose node knows of no fault."""
    yield running
    running.clear()
    for file in STATE.iterdir():
        file.unlink()


def run(cluster: Cluster, command: str) -> str:
    """Run a command of the page as it is written there, and return its output."""
    assert f"\n{command}\n" in PAGE, command
    program, *words = shlex.split(command)
    assert program == "kubectl"
    return cluster.kubectl(
        *(str(REPOSITORY / word) if "deploy/" in word else word for word in words)
    )


def healthy(cluster: Cluster) -> int:
    """Return how many healthy devices the node has, as the scheduler sees it."""
    shown = run(cluster, f"kubectl get nodes --output custom-columns={COLUMNS}")
    words = shown.partition("map[")[2].partition("]")[0].split()
    return int(dict(word.split(":") for word in words).get(GPU, 0))


def test_a_simulated_node_as_the_page_says(cluster: Cluster) -> None:
    """Its commands lead to simulated GPUs, a pod that holds one, and a broken GPU that names it."""
    run(cluster, "kubectl apply -k deploy/kustomize/overlays/simulated")
    run(cluster, "kubectl --namespace kube-system rollout status daemonset/gpu-sharing-plugin")
    wait_until(lambda: healthy(cluster) == 8, PATIENCE, "the node has eight devices")
    run(cluster, "kubectl create -f deploy/examples/simulated.yaml")
    run(cluster, "kubectl wait --for=condition=Ready pod/simulated")
    held = run(cluster, "kubectl logs simulated").strip()
    ours = "kubectl --namespace kube-system exec daemonset/gpu-sharing-plugin -- gpu-sharing-plugin"
    run(cluster, f"{ours} drill xid 79 --gpu 0")
    wait_until(lambda: healthy(cluster) == 4, PATIENCE, "half of its devices are left")
    told = run(cluster, f"{ours} status")
    assert "GPU 0: fatal Xid: 79" in told
    assert held == "GPU-00000000-0000-0000-0000-000000000000"
    assert "default/simulated/main (1)" in told
    run(cluster, "kubectl delete -f deploy/examples/simulated.yaml")
    run(cluster, "kubectl delete -k deploy/kustomize/overlays/simulated")
    wait_until(lambda: healthy(cluster) == 0, PATIENCE, "the node has no devices")


def test_a_node_that_has_lost_its_gpus(cluster: Cluster) -> None:
    """With the chart, a node without a GPU has a pod that is ready, and loses the condition and the
    taint of the GPUs that it had.
    """
    broken = [{"type": CONDITION, "status": "True", "reason": "GpusUnhealthy", "message": "a"}]
    patch = json.dumps({"status": {"conditions": broken}})
    cluster.kubectl("patch", "node", NODE, "--subresource=status", f"--patch={patch}")
    cluster.kubectl("taint", "node", NODE, f"{node_taint.KEY}=gpu-lost:{node_taint.EFFECT}")
    told = ("nodeCondition.enabled", "nodeTaint.enabled")
    values = [f"--set={name}=true" for name in (*told, "allowDefaultNamespace")]
    command = ("install", "gpus", str(CHART), "--set=nfdAffinity=false", *values, "--wait")
    done = newest().run(*command, f"--kubeconfig={cluster.server.kubeconfig}")
    assert done.returncode == 0, done.stderr

    def node() -> Any:
        return json.loads(cluster.kubectl("get", "node", NODE, "--output=json"))

    def conditions() -> dict[str, str]:
        return {each["type"]: each["status"] for each in node()["status"]["conditions"]}

    wait_until(lambda: "taints" not in node()["spec"], PATIENCE, "the taint is gone")
    wait_until(lambda: conditions()[CONDITION] == "False", PATIENCE, "the condition is false")
    exec_ = ("exec", "daemonset/gpus-gpu-sharing-plugin", "--", "gpu-sharing-plugin")
    assert "no NVIDIA GPU on this node" in cluster.kubectl(*exec_, "status")
