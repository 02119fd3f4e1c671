"""The kubectl plugin with the real kubectl, a real API server and a real service."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.apiserver import KUBECTL, ApiServer
from tests.fakes.service import service, short_folder, until

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "deploy/kubectl/kubectl-gpu_sharing"
NAMESPACE, NODE, AWAY = "kube-system", "node-1", "node-2"
ADDRESS = "198.51.100.7"
"""Of a network for documentation, on the loopback interface: the API server reaches no pod at a
loopback address.
"""


@pytest.fixture
def address() -> Iterator[str]:
    """Give the loopback interface an address that a pod may have."""
    change = ["ip", "address", "{}", f"{ADDRESS}/32", "dev", "lo"]
    subprocess.run([word.format("add") for word in change], check=True)
    yield ADDRESS
    subprocess.run([word.format("del") for word in change], check=True)


def pod(server: ApiServer, folder: Path, node: str, ip: str, port: int) -> None:
    """Create the plugin's pod on a node; nobody starts it."""
    container = {
        "name": "plugin",
        "image": "none",
        "ports": [{"name": "metrics", "containerPort": port}],
    }
    name = f"plugin-{node}"
    labels = {"app.kubernetes.io/name": "gpu-sharing-plugin"}
    file = folder / "pod.json"
    spec = {
        "nodeName": node,
        "automountServiceAccountToken": False,
        "serviceAccountName": "plugin",
        "containers": [container],
    }
    metadata = {"name": name, "namespace": NAMESPACE, "labels": labels}
    file.write_text(
        json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    )
    server.kubectl("create", f"--filename={file}")
    status = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}
    patch = f"--patch={json.dumps(status)}"
    server.kubectl(f"-n={NAMESPACE}", "patch", "pod", name, "--subresource=status", patch)


async def told(server: ApiServer, *arguments: str) -> str:
    """Run `kubectl gpu-sharing`, as kubectl finds it on the PATH, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        str(KUBECTL),
        "gpu-sharing",
        f"--kubeconfig={server.kubeconfig}",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "KUBECTL": str(KUBECTL),
            "PATH": f"{PLUGIN.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    output, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return output.decode()


def test_a_cluster_at_a_glance(server: ApiServer, tmp_path: Path, address: str) -> None:
    """The plugin shows the node that answers, and the one that does not."""

    async def story(folder: Path) -> None:
        options = (f"--metrics-address={address}:0",)
        async with service(folder, *options, node={"gpus": [{}, {}]}) as running:
            await until((folder / "exporter.url").exists, "the URL of the exporter")
            await running.logged("watching GPUs for Xid events")
            port = int(running.url().rpartition(":")[2])
            pod(server, tmp_path, NODE, address, port)
            pod(server, tmp_path, AWAY, address, 1)
            rows = (await told(server)).splitlines()
            assert rows[1].split()[:3] == [NODE, "2", "2"]
            assert rows[2].startswith(AWAY)
            assert "connect: connection refused" in rows[2]
            (one,) = json.loads(await told(server, NODE, "--json"))
            assert [gpu["index"] for gpu in one["status"]["gpus"]] == [0, 1]

    server.kubectl(f"-n={NAMESPACE}", "create", "serviceaccount", "plugin")
    try:
        with short_folder() as folder:
            asyncio.run(story(folder))
    finally:
        force = ("--force", "--grace-period=0", "--ignore-not-found")
        server.kubectl(f"-n={NAMESPACE}", "delete", "pod", f"plugin-{NODE}", *force)
        server.kubectl(f"-n={NAMESPACE}", "delete", "pod", f"plugin-{AWAY}", *force)
        server.kubectl(f"-n={NAMESPACE}", "delete", "serviceaccount", "plugin")
