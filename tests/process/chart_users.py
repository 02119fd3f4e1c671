"""Values files as users of NVIDIA's chart have them, and what the objects must then have.

The table in docs/migration.md has a row for each file.
"""

from pathlib import Path
from typing import Any

import yaml

from tests.process.chart_cases import GPU_LABELS, LEAST, PRIVILEGED, SYS_ADMIN
from tests.process.chart_looks import (
    Look,
    at,
    file,
    kinds,
    mounted,
    of_container,
    of_pod,
    on_nodes_with,
    variable,
)

FOLDER = Path(__file__).parents[1] / "values"
HOOK = "/usr/local/nvidia/toolkit/nvidia-cdi-hook"
DRIVER = {"path": "/run/nvidia/driver", "type": "Directory", "readOnly": True}
SHARED = [{"name": "nvidia.com/gpu", "replicas": 10}]
NODES: Look = at(
    *("DaemonSet", "spec", "template", "spec", "affinity", "nodeAffinity"),
    "requiredDuringSchedulingIgnoredDuringExecution",
)
INSTANCES = {
    "key": "node.kubernetes.io/instance-type",
    "operator": "In",
    "values": ["p4d.24xlarge", "p5.48xlarge"],
}
RBAC = {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"}
TAINTS = ["nvidia.com/gpu", "team"]
TEMPLATE = ("DaemonSet", "spec", "template", "metadata")
IMAGE = "registry.example.com:5000/ml/gpu-sharing-plugin@sha256:" + "1" * 64
RIGHTS = of_container("securityContext")

EXPECTED: dict[str, list[tuple[Look, Any]]] = {
    "sharing-by-label": [
        (kinds, {"DaemonSet", "ServiceAccount", "ConfigMap", *RBAC}),
        (variable("CONFIG_DIR"), "/config"),
        (variable("CONFIG_DEFAULT"), "default"),
        (variable("CONFIG_LABEL"), "nvidia.com/device-plugin.config"),
        (variable("NODE_LABELS"), "nodefeature"),
        (of_pod("automountServiceAccountToken"), True),
        (of_pod("initContainers"), None),
        (of_pod("shareProcessNamespace"), None),
        (RIGHTS, LEAST),
        (
            lambda objects: file("-configs", "time-sliced")(objects)["sharing"]["timeSlicing"][
                "resources"
            ],
            SHARED,
        ),
    ],
    "mig-mixed": [
        (variable("MIG_STRATEGY"), "mixed"),
        (variable("NVIDIA_MIG_MONITOR_DEVICES"), "all"),
        (variable("FAIL_ON_INIT_ERROR"), "false"),
        (of_pod("nodeSelector"), {"nvidia.com/mig.capable": "true"}),
        (of_pod("affinity"), None),
        (RIGHTS, SYS_ADMIN),
    ],
    "cdi": [
        (variable("DEVICE_LIST_STRATEGY"), "cdi-annotations,cdi-cri"),
        (variable("NVIDIA_DRIVER_ROOT"), "/run/nvidia/driver"),
        (variable("NVIDIA_CDI_HOOK_PATH"), HOOK),
        (mounted("/driver-root"), ("hostPath", DRIVER)),
        (
            mounted("/var/run/cdi"),
            ("hostPath", {"path": "/var/run/cdi", "type": "DirectoryOrCreate", "readOnly": False}),
        ),
        (RIGHTS, PRIVILEGED),
        (on_nodes_with, GPU_LABELS),
    ],
    "runtime-class": [
        (of_pod("runtimeClassName"), "nvidia"),
        (variable("PASS_DEVICE_SPECS"), "true"),
        (variable("DEVICE_ID_STRATEGY"), "index"),
        (RIGHTS, PRIVILEGED),
    ],
    "scheduling": [
        (of_pod("nodeSelector"), {"pool": "gpu"}),
        (NODES, {"nodeSelectorTerms": [{"matchExpressions": [INSTANCES]}]}),
        (lambda objects: [t["key"] for t in of_pod("tolerations")(objects)], TAINTS),
    ],
    "gds-mofed": [
        (variable("GDS_ENABLED"), "true"),
        (variable("MOFED_ENABLED"), "true"),
        (variable("GDRCOPY_ENABLED"), "true"),
        (variable("DEVICE_LIST_STRATEGY"), "volume-mounts"),
        (RIGHTS, SYS_ADMIN),
    ],
    "pull-secrets": [
        (of_container("image"), IMAGE),
        (of_container("imagePullPolicy"), "Always"),
        (of_pod("imagePullSecrets"), [{"name": "registry"}, {"name": "mirror"}]),
        (RIGHTS, LEAST),
    ],
    "priority": [
        (of_pod("priorityClassName"), "gpu-infrastructure"),
        (at(*TEMPLATE, "annotations"), {"sidecar.istio.io/inject": "false"}),
        (of_pod("securityContext"), {"fsGroup": 0}),
        (
            of_container("resources"),
            {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        ),
    ],
    "update-strategy": [
        (
            lambda objects: at("DaemonSet", "spec", "updateStrategy")(objects)["rollingUpdate"][
                "maxUnavailable"
            ],
            "10%",
        ),
        (at("DaemonSet", "metadata", "name"), "nvidia-device-plugin"),
        (at("DaemonSet", "spec", "selector", "matchLabels"), {"app": "nvidia-device-plugin"}),
    ],
    "extra-arguments": [
        (variable("DP_DISABLE_HEALTHCHECKS"), "13,31,43"),
        (
            of_container("args"),
            ["--log-level=debug", "--shared-devices-allocation-policy=packed"],
        ),
        (lambda objects: mounted("/etc/ssl/certs/corporate.crt")(objects)[0], "configMap"),
        (lambda objects: of_pod("initContainers")(objects)[0]["name"], "wait-for-driver"),
        (at(*TEMPLATE, "labels", "team"), "ml"),
    ],
}


def values(name: str) -> dict[str, Any]:
    """Return the values of the file *name*."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return found
