"""The manifests, rendered by the real kustomize, and what each overlay changes."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.fakes.helm import CACHE

KUSTOMIZE = Path(__file__).parents[2] / "deploy/kustomize"
CACHED = CACHE / "kubectl-1.32.3"
KUBECTL = shutil.which("kubectl") or (str(CACHED) if CACHED.exists() else "")
PRIVILEGED = {"privileged": True, "readOnlyRootFilesystem": True}

pytestmark = pytest.mark.skipif(
    not KUBECTL, reason="needs kubectl, which has kustomize; scripts/fetch-helm brings it"
)

Object = dict[str, Any]


def rendered(folder: Path) -> dict[str, Object]:
    """Return the objects of a kustomization by kind; each must match its Kubernetes schema."""
    done = subprocess.run([KUBECTL, "kustomize", folder], check=True, capture_output=True)
    objects = list(yaml.safe_load_all(done.stdout))
    for item in objects:
        if item["kind"] != "PodMonitor":  # its CRD is not in the schemas
            kubernetes_validate.validate(item, "1.31", strict=True)
    return {item["kind"]: item for item in objects}


def pod_of(objects: dict[str, Object]) -> tuple[Object, Object, dict[str, str]]:
    """Return the pod, its container and the container's plain variables."""
    pod = objects["DaemonSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {
        variable["name"]: variable["value"] for variable in container["env"] if "value" in variable
    }
    return pod, container, variables


def test_the_base_has_no_rights() -> None:
    """The base's container is not privileged and has no capability, and its pod has no token."""
    pod, container, _ = pod_of(rendered(KUSTOMIZE / "base"))

    assert pod["automountServiceAccountToken"] is False
    assert container["command"] == ["gpu-sharing-plugin", "run"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@pytest.mark.parametrize(
    ("overlay", "privileged", "variables"),
    [
        ("cpu-manager", True, {"PASS_DEVICE_SPECS": "true"}),
        ("mig", False, {"MIG_STRATEGY": "mixed", "NVIDIA_MIG_MONITOR_DEVICES": "all"}),
        ("cdi", True, {"DEVICE_LIST_STRATEGY": "cdi-cri", "NVIDIA_DRIVER_ROOT": "/"}),
        ("shared-time-slicing", False, {"CONFIG_FILE": "/config/config.yaml"}),
        ("simulated", False, {"NVIDIA_VISIBLE_DEVICES": "void"}),
    ],
)
def test_an_overlay_changes_what_it_should(
    *,
    overlay: str,
    privileged: bool,
    variables: dict[str, str],
) -> None:
    """Each overlay is valid, adds its variables to the base's, and is privileged only if it must
    be.
    """
    pod, container, found = pod_of(rendered(KUSTOMIZE / "overlays" / overlay))

    assert found == {"FAIL_ON_INIT_ERROR": "false", **variables}
    assert (container["securityContext"] == PRIVILEGED) == privileged
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_service_for_mps_is_a_daemon_set_of_its_own() -> None:
    """The overlay for MPS adds a DaemonSet whose selector does not overlap with the plugin's, and
    gives both the same configuration.
    """
    done = subprocess.run(
        [KUBECTL, "kustomize", KUSTOMIZE / "overlays/shared-mps"], check=True, capture_output=True
    )
    found = [item for item in yaml.safe_load_all(done.stdout) if item["kind"] == "DaemonSet"]
    for item in found:
        kubernetes_validate.validate(item, "1.31", strict=True)
    pods = [item["spec"]["template"] for item in found]
    for one, other in ((0, 1), (1, 0)):
        wanted = found[one]["spec"]["selector"]["matchLabels"].items()
        assert wanted <= pods[one]["metadata"]["labels"].items()
        assert not wanted <= pods[other]["metadata"]["labels"].items()
    configurations = {
        volume["configMap"]["name"]
        for pod in pods
        for volume in pod["spec"]["volumes"]
        if "configMap" in volume
    }
    assert len(configurations) == 1


def test_an_overlay_can_change_the_namespace(tmp_path: Path) -> None:
    """A user's overlay with every component moves all namespaced objects to its namespace."""
    # A link, because kustomize accepts only relative paths.
    (tmp_path / "kustomize").symlink_to(KUSTOMIZE)
    components = (
        *("gpu-nodes", "node-access", "node-labels", "pod-monitor", "pod-usage"),
        *("runtime-class", "kubelet-dir"),
    )
    ours = {
        "resources": ["kustomize/overlays/simulated"],
        "components": [f"kustomize/components/{name}" for name in components],
        "namespace": "gpu",
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(ours))
    objects = rendered(tmp_path)
    pod, _, _ = pod_of(objects)
    config = next(volume["configMap"] for volume in pod["volumes"] if "configMap" in volume)

    assert config["name"] == objects["ConfigMap"]["metadata"]["name"]
    assert pod["automountServiceAccountToken"] is True
    assert pod["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
    assert "affinity" in pod
    assert pod["hostPID"] is True
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        assert objects[kind]["subjects"][0]["namespace"] == "gpu"
    namespaced = objects.keys() - {"ClusterRole", "ClusterRoleBinding"}
    assert {objects[kind]["metadata"]["namespace"] for kind in namespaced} == {"gpu"}
