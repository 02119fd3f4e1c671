"""The commands of docs/troubleshooting.md: kubectl takes them, and ours answer."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.apiserver import KUBECTL, ApiServer
from tests.fakes.service import service, short_folder

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
POD, NODE = "gpu-sharing-plugin-x7k2p", "node-1"
LABELS = {"app.kubernetes.io/name": "gpu-sharing-plugin", "app.kubernetes.io/component": "mps"}
"""Of both services, as there is one pod: the plugin's, and the one that keeps MPS daemons."""

OURS = Path(sys.executable).with_name("gpu-sharing-plugin")


def commands() -> list[str]:
    """Return each command of the page that begins with kubectl, without what follows a pipe."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).splitlines()
    found = [*blocks, *re.findall(r"`(kubectl [^`]*)`", PAGE)]
    kubectl = (line.partition(" | ")[0].partition(" #")[0].strip() for line in found)
    # A mention, as of `kubectl get --raw`, ends before what makes it a command.
    whole = {c for c in kubectl if c.startswith("kubectl ") and not c.endswith(("--", "--raw"))}
    return sorted(whole)


@pytest.fixture(scope="module")
def cluster(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Yield an API server with our DaemonSet and one pod of it, on a node that does not answer."""
    manifest = str(ROOT / "deploy/gpu-sharing-plugin.yaml")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": "kube-system", "labels": LABELS},
        "spec": {
            "nodeName": NODE,
            "automountServiceAccountToken": False,
            "serviceAccountName": "troubleshooting",
            "containers": [{"name": "plugin", "image": "none"}],
        },
    }
    file = tmp_path_factory.mktemp("troubleshooting") / "pod.json"
    file.write_text(json.dumps(pod))
    addresses: dict[str, Any] = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}]}
    with server.node(NODE, addresses):
        server.kubectl("apply", f"--filename={manifest}")
        server.kubectl("-n=kube-system", "create", "serviceaccount", "troubleshooting")
        server.kubectl("create", f"--filename={file}")
        yield server
        server.kubectl("-n=kube-system", "delete", "pod", POD, "--force", "--grace-period=0")
        server.kubectl("-n=kube-system", "delete", "serviceaccount", "troubleshooting")
        server.kubectl("delete", f"--filename={manifest}")


def test_the_page_has_commands() -> None:
    """The page is read as it is meant: its commands are found."""
    assert any(" exec POD -- gpu-sharing-plugin status" in command for command in commands())
    assert len(commands()) > 5


@pytest.mark.parametrize("command", commands())
def test_kubectl_takes_the_command(cluster: ApiServer, command: str) -> None:
    """Kubectl finds what the command names; only `exec` and `logs` need the node, which is away."""
    words = shlex.split(command.replace("POD", POD))[1:]
    done = subprocess.run(
        [str(KUBECTL), f"--kubeconfig={cluster.kubeconfig}", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "exec" in words or "logs" in words:
        assert "127.0.0.1:10250" in done.stderr, done.stderr
    elif "resourceslices" in words:  # this API server is older than DRA
        assert "doesn't have a resource type" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert "gpu-sharing-plugin" in done.stdout


def test_our_commands_answer() -> None:
    """What the page runs in the pod works there; `status` says why the service is not ready."""
    inner = {c.partition(" -- ")[2] for c in commands() if " -- gpu-sharing-plugin" in c}
    assert "gpu-sharing-plugin status" in inner

    async def story() -> None:
        with short_folder() as folder:
            async with service(folder, node={"gpus": [{}]}) as running:
                await running.logged("serving metrics")
                await running.logged("cannot register with the kubelet, retrying")
                for command in sorted(inner):
                    _, *words = command.split()
                    where = [] if words == ["check-config"] else [f"--runtime-dir={folder}"]
                    process = await asyncio.create_subprocess_exec(
                        str(OURS), *words, *where, stdout=asyncio.subprocess.PIPE
                    )
                    output, _ = await process.communicate()
                    assert process.returncode == 0
                    if words == ["status"]:
                        assert "ready: no" in output.decode()
                        assert "nvidia.com/gpu" in output.decode()

    asyncio.run(story())
