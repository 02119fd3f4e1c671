"""What the values of each distribution of Kubernetes must give the objects."""

from typing import Any

import yaml

from tests.fakes.helm import CHART
from tests.process.chart_cases import GPU_LABELS, LEAST, PRIVILEGED
from tests.process.chart_looks import (
    Look,
    at,
    mounted,
    of_container,
    of_pod,
    on_nodes_with,
    variable,
)

FOLDER = CHART.parent / "distributions"
RUNTIME: tuple[Look, Any] = (of_pod("runtimeClassName"), "nvidia")
RIGHTS = of_container("securityContext")
LABELLED: tuple[Look, Any] = (on_nodes_with, GPU_LABELS)
PLUGINS = "/var/lib/kubelet/device-plugins"
RESOURCES = "/var/lib/kubelet/pod-resources"
GKE = "/home/kubernetes/bin/nvidia"


def folder(path: str, *, read_only: bool) -> tuple[str, dict[str, Any]]:
    """Return the volume of a folder of the host that exists."""
    return "hostPath", {"path": path, "type": "Directory", "readOnly": read_only}


PLUGINS_MOUNTED: tuple[Look, Any] = (mounted(PLUGINS), folder(PLUGINS, read_only=False))

EXPECTED: dict[str, list[tuple[Look, Any]]] = {
    "gpu-operator": [
        RUNTIME,
        (of_pod("nodeSelector"), {"nvidia.com/gpu.deploy.device-plugin": "true"}),
        (of_pod("affinity"), None),
        (
            at("DaemonSet", "spec", "template", "metadata", "labels", "app"),
            "nvidia-device-plugin-daemonset",
        ),
        (variable("NVIDIA_DRIVER_ROOT"), "/run/nvidia/driver"),
        (mounted("/driver-root"), folder("/run/nvidia/driver", read_only=True)),
        (variable("NODE_LABELS"), "nodefeature"),
        (RIGHTS, LEAST),
    ],
    "gke": [
        (variable("NVIDIA_DRIVER_ROOT"), GKE),
        (variable("NVIDIA_DEV_ROOT"), "/"),
        (variable("DEVICE_LIST_STRATEGY"), "cdi-cri"),
        (mounted("/driver-root"), folder(GKE, read_only=True)),
        (
            mounted(f"/host{GKE}"),
            ("hostPath", {"path": GKE, "type": "DirectoryOrCreate", "readOnly": True}),
        ),
        (on_nodes_with, ["cloud.google.com/gke-accelerator"]),
        (RIGHTS, PRIVILEGED),
    ],
    "eks": [LABELLED, (of_pod("runtimeClassName"), None), (RIGHTS, LEAST)],
    "aks": [
        (of_pod("nodeSelector"), {"kubernetes.azure.com/accelerator": "nvidia"}),
        (
            lambda objects: [taint["key"] for taint in of_pod("tolerations")(objects)],
            ["nvidia.com/gpu", "sku", "CriticalAddonsOnly"],
        ),
        (of_pod("runtimeClassName"), None),
    ],
    "k3s": [RUNTIME, LABELLED, PLUGINS_MOUNTED, (RIGHTS, LEAST)],
    "microk8s": [
        RUNTIME,
        PLUGINS_MOUNTED,
        (
            mounted(RESOURCES),
            folder("/var/snap/microk8s/common/var/lib/kubelet/pod-resources", read_only=True),
        ),
    ],
    "k0s": [
        RUNTIME,
        PLUGINS_MOUNTED,
        (mounted(RESOURCES), folder("/var/lib/k0s/kubelet/pod-resources", read_only=True)),
    ],
    "talos": [RUNTIME, LABELLED, (RIGHTS, LEAST)],
    "openshift": [
        RUNTIME,
        (of_pod("securityContext"), {"seLinuxOptions": {"type": "spc_t"}}),
        (RIGHTS, LEAST),
    ],
    "kubeadm": [RUNTIME, LABELLED, (RIGHTS, LEAST)],
}


def values(name: str) -> dict[str, Any]:
    """Return the values of the file *name*."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return found
