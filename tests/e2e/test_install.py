"""The commands of docs/install.md on a real API server."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.apiserver import ApiServer

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PAGE, HELM = ((ROOT / "docs" / name).read_text() for name in ("install.md", "install-helm.md"))
FLAT = ROOT / "deploy/gpu-sharing-plugin.yaml"


def said(command: str, page: str = PAGE) -> str:
    """Return *command*; fail if it is not in the page."""
    assert command in page, command
    return command


def test_the_flat_manifest(server: ApiServer) -> None:
    """`kubectl create -f` with the flat manifest creates the DaemonSet, and `delete` removes it."""
    said("kubectl create -f deploy/gpu-sharing-plugin.yaml")
    server.kubectl("create", "-f", str(FLAT))
    (made,) = server.get("daemonsets", "--namespace=kube-system")
    assert made["metadata"]["name"] == "gpu-sharing-plugin"
    server.kubectl("delete", "-f", str(FLAT))
    assert server.get("daemonsets", "--namespace=kube-system") == []


OVERLAYS = sorted(overlay.name for overlay in (ROOT / "deploy/kustomize/overlays").iterdir())


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_overlay(server: ApiServer, name: str) -> None:
    """Each overlay is applied, applied again without a change, and deleted."""
    said("kubectl apply -k FOLDER")
    said("kubectl delete -k FOLDER")
    folder = str(ROOT / "deploy/kustomize/overlays" / name)
    server.kubectl("apply", "-k", folder)
    assert "unchanged" in server.kubectl("apply", "-k", folder)
    server.kubectl("delete", "-k", folder)


def test_the_component_grants_the_rights_for_events(server: ApiServer, tmp_path: Path) -> None:
    """With the component the service has the rights for Events and the node condition, but not for
    pods or secrets.
    """
    shutil.copytree(ROOT / "deploy/kustomize", tmp_path / "kustomize")
    (tmp_path / "kustomize/own").mkdir()
    (tmp_path / "kustomize/own/kustomization.yaml").write_text(
        "resources: [../base]\ncomponents: [../components/node-access]\n"
    )
    own = str(tmp_path / "kustomize/own")
    who = "--as=system:serviceaccount:kube-system:gpu-sharing-plugin"
    allowed = (("get", "nodes"), ("patch", "nodes", "--subresource=status"), ("create", "events"))
    server.kubectl("apply", "-k", own)
    try:
        for question in allowed:
            answer = server.kubectl("auth", "can-i", *question, who)
            assert answer.splitlines()[-1] == "yes", question
        listed = server.kubectl("auth", "can-i", "--list", who)
    finally:
        server.kubectl("delete", "-k", own)
    assert "secrets" not in listed
    assert "pods" not in listed


def test_a_stale_resource_is_removed_from_the_node(server: ApiServer) -> None:
    """The patch removes the extended resource from a node, and nothing else; the page for kubectl
    refers to that of Helm for it.
    """
    said("](install-helm.md#uninstall)")
    said("kubectl patch node NODE --subresource=status --type=json --patch='[", HELM)
    remove = said(
        """[
  {"op": "remove", "path": "/status/capacity/nvidia.com~1gpu"},
  {"op": "remove", "path": "/status/allocatable/nvidia.com~1gpu"}]""",
        HELM,
    )
    both = {"cpu": "2", "nvidia.com/gpu": "0"}
    with server.node("old", {"capacity": both, "allocatable": both}) as shown:
        server.kubectl(
            "patch", "node", "old", "--subresource=status", "--type=json", f"--patch={remove}"
        )
        status = shown()["status"]
        assert (status["capacity"], status["allocatable"]) == ({"cpu": "2"}, {"cpu": "2"})
