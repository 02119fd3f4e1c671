"""The chart and the kustomizations in deploy/ render the same pods."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.helm import CACHE, CHART, Object, for_mps, newest, pod, the

KUSTOMIZE = CHART.parents[1] / "kustomize"
KUBECTL = CACHE / "kubectl-1.37.1"

PAIRS: dict[str, dict[str, Any]] = {
    "base": {},
    "overlays/cpu-manager": {"compatWithCPUManager": True},
    "overlays/mig": {"migStrategy": "mixed"},
    "overlays/cdi": {"deviceListStrategy": "cdi-cri", "nvidiaDriverRoot": "/"},
    "overlays/simulated": {
        "simulatedNode": {"gpus": [{}]},
        "extraArgs": ["--resource-config=gpu:gpu:4"],
    },
}
NAMES_OF_OBJECTS = ("configMap", "serviceAccountName")


@pytest.mark.parametrize(("folder", "values"), PAIRS.items(), ids=PAIRS)
def test_the_pods_are_the_same(folder: str, values: dict[str, Any]) -> None:
    """The chart and the kustomization render the same pod, except for names of other objects."""
    if not (KUSTOMIZE / folder).exists():
        pytest.skip(f"no deploy/kustomize/{folder} in this tree")
    chart = newest().objects({"nfdAffinity": False} | values)
    assert _comparable(pod(chart)) == _comparable(_made(KUSTOMIZE / folder))


SYS_ADMIN = {
    "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
COMPONENTS: dict[str, dict[str, Any]] = {
    "pod-usage": {"usage": {"perContainer": True}},
    "node-labels": {"gfd": {"enabled": True}},
    "gpu-nodes": {"nfdAffinity": True},
    "runtime-class": {"runtimeClassName": "nvidia"},
    "kubelet-dir": {"kubeletDir": "/var/lib/k0s/kubelet"},
    "config-by-label": {"config": {"name": "gpu-sharing-plugin-configs", "uses": []}},
    "privileged": {"securityContext": {"privileged": True, "readOnlyRootFilesystem": True}},
    "sys-admin": {"securityContext": SYS_ADMIN},
}


@pytest.mark.parametrize(("component", "values"), COMPONENTS.items(), ids=COMPONENTS)
def test_a_component(tmp_path: Path, component: str, values: dict[str, Any]) -> None:
    """A component changes the pod as the chart's value does."""
    (tmp_path / "kustomize").symlink_to(KUSTOMIZE)  # kustomize accepts only relative paths
    ours = {"resources": ["kustomize/base"], "components": [f"kustomize/components/{component}"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(ours))
    chart = newest().objects({"nfdAffinity": False} | values)
    assert _comparable(pod(chart)) == _comparable(_made(tmp_path))


def test_the_service_for_mps() -> None:
    """The chart and the overlay shared-mps render the same two pods."""
    sharing = {"mps": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}}
    ours = newest().objects({"sharing": sharing, "nfdAffinity": False})
    theirs = _objects(KUSTOMIZE / "overlays/shared-mps")
    assert _comparable(pod(ours)) == _comparable(pod(theirs))
    assert _comparable(pod(for_mps(ours))) == _comparable(pod(for_mps(theirs)))
    strategies = [the(for_mps(o), "DaemonSet")["spec"]["updateStrategy"] for o in (ours, theirs)]
    assert strategies[0] == strategies[1]


def _made(folder: Path) -> Object:
    """Return the pod that a kustomization renders."""
    return pod(_objects(folder))


def _objects(folder: Path) -> list[Object]:
    """Return the objects that a kustomization renders."""
    if not KUBECTL.exists():
        pytest.skip("no kubectl: run scripts/fetch-helm")
    command = [str(KUBECTL), "kustomize", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return list(yaml.safe_load_all(result.stdout))


def _comparable(spec: Object) -> Object:
    """Return *spec* without the names of other objects, and with the lists sorted whose order does
    not matter.
    """
    (container,) = spec["containers"]
    ports = [{"protocol": "TCP"} | port for port in container["ports"]]
    sorted_lists = {
        "env": sorted(container.get("env", []), key=lambda variable: str(variable["name"])),
        "volumeMounts": sorted(
            container["volumeMounts"], key=lambda mount: str(mount["mountPath"])
        ),
        "ports": ports,
    }
    volumes = [
        {key: key in NAMES_OF_OBJECTS or value for key, value in volume.items()}
        for volume in sorted(spec["volumes"], key=lambda volume: str(volume["name"]))
    ]
    tolerations = sorted(spec["tolerations"], key=lambda toleration: str(toleration["key"]))
    lists = {
        "containers": [container | sorted_lists],
        "volumes": volumes,
        "tolerations": tolerations,
    }
    rest = {key: value for key, value in spec.items() if key not in NAMES_OF_OBJECTS}
    return rest | lists
