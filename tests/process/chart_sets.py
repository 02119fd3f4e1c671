"""Sets of chart values: what the tests check for every chart must hold for each of these sets."""

from typing import Any

GREY = (
    "pcie",
    "slowdown",
    "clocks",
    "eccCorrected",
    "spareRows",
    "persistence",
    "fabric",
    "gpuMissing",
)

EVERYTHING: dict[str, Any] = {
    "resourceConfig": "gpu:shared:4",
    "compatWithCPUManager": True,
    "migStrategy": "mixed",
    "failOnInitError": True,
    "deviceListStrategy": ["envvar", "cdi-cri"],
    "deviceIDStrategy": "index",
    "sharedDevicesAllocationPolicy": "spread",
    "nvidiaDriverRoot": "/run/nvidia/driver",
    "nvidiaDevRoot": "/host",
    "gdrcopyEnabled": True,
    "gdsEnabled": True,
    "mofedEnabled": True,
    "deviceDiscoveryStrategy": "nvml",
    "cdi": {
        "nvidiaHookPath": "/hook",
        "featureFlags": ["a", "b"],
        "disableHooks": "all",
        "annotationPrefix": "cdi.k8s.io/",
        "kind": "example.com/gpu",
    },
    "imex": {"channelIDs": [0], "required": True},
    "events": {"enabled": True},
    "nodeCondition": {"enabled": True},
    "nodeTaint": {"enabled": True},
    "draCheck": {"enabled": True},
    "nodeLabels": {"health": True},
    "gfd": {"enabled": True, "sleepInterval": "1m30s"},
    "logFormat": "json",
    "logLevel": "debug",
    "metrics": {
        "port": 9500,
        "podLabels": False,
        "service": {"enabled": True, "annotations": {"prometheus.io/scrape": "true"}},
        "podMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "usage": {"perContainer": True},
    "image": {"tag": "1", "digest": f"sha256:{'a' * 64}"},
    "imagePullSecrets": [{"name": "registry"}],
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}},
    "podAnnotations": {"a": "b"},
    "podSecurityContext": {"fsGroup": 0},
    "resources": {"limits": {"memory": "1Gi"}},
    "nodeSelector": {"gpu": "yes"},
    "nfdAffinity": True,
    "runtimeClassName": "nvidia",
    "extraEnv": [{"name": "DP_DISABLE_HEALTHCHECKS", "value": "13"}],
    "extraArgs": ["--log-level=info"],
    "extraVolumes": [{"name": "extra", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
    "devicePlugin": {"enableHostNetwork": True},
}
SETTINGS = {
    "health": {
        "staleAfter": "2m",
        "hangAfter": 20,
        "pollInterval": "1m",
        "rescanInterval": "2m",
        "exitWithoutAccess": "0s",
        "occupied": "unhealthy",
        "dra": "withhold",
        "fabricAfter": 0,
        "licence": "unhealthy",
        "xids": {"79": "ignore"},
        "recovery": {"mode": "never", "quietPeriod": "1m", "probes": 5},
        "probe": "/opt/check",
        "probeInterval": "6h",
        "probeTimeout": "2m",
        "grey": {"after": "2m", **dict.fromkeys(GREY, "unhealthy")},
    },
    "sharing": {
        "timeSlicing": {
            "renameByDefault": True,
            "failRequestsGreaterThanOne": True,
            "resources": [{"name": "mig-1g.10gb", "replicas": 4, "rename": "a", "devices": [0]}],
        }
    },
}
FILES = {"config": {"map": {"default": "version: v1\n", "other": "version: v1\n"}}}
MPS = {
    "sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 4}]}},
    "migStrategy": "single",
    "nvidiaDriverRoot": "/run/nvidia/driver",
    "nodeSelector": {"gpu": "yes"},
    "mps": {
        "root": "/run/mps/",
        "enableHostNetwork": True,
        "metricsPort": 9999,
        "controlPath": "/usr/bin/nvidia-cuda-mps-control",
        "stateDir": "/var/lib/mps",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "nodeSelector": {"mps": "yes"},
        "extraArgs": ["--log-level=debug"],
        "extraEnv": [{"name": "LOG_FORMAT", "value": "json"}],
        "resources": {"limits": {"memory": "1Gi"}},
    },
}
CDI = {"deviceListStrategy": "cdi-cri"}
RIGHTS: dict[str, dict[str, Any]] = {
    "nothing, or sharing by time-slicing": {"resourceConfig": "gpu:shared:4"},
    "`migStrategy: single`, `mixed`": {"migStrategy": "mixed"},
    "`deviceListStrategy: volume-mounts`": {"deviceListStrategy": "volume-mounts"},
    "a CDI strategy, and `runtimeClassName`": CDI | {"runtimeClassName": "nvidia"},
    "a CDI strategy alone": CDI,
    "`compatWithCPUManager`": {"compatWithCPUManager": True},
    "`config.name`": {"config": {"name": "a"}},
    "`config.name`, and `config.uses: []`": {"config": {"name": "a", "uses": []}},
    "`nvidiaDriverRoot`": {"nvidiaDriverRoot": "/d"},
    "`usage.perContainer`": {"usage": {"perContainer": True}},
    "`nodeLabels.output: file`": {"nodeLabels": {"output": "file"}},
    "`devicePlugin.enableHostNetwork`": {"devicePlugin": {"enableHostNetwork": True}},
}
"""The rows of the table in docs/security.md."""
SETS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "everything, own settings": EVERYTHING | SETTINGS,
    "everything, settings by node": EVERYTHING | FILES,
    "simulated": {"simulatedNode": {"gpus": [{"mig": ["1g.10gb"]}, {}]}},
    "https": {
        "metrics": {
            "tls": {"secret": "s", "clientCA": "ca.crt", "config": {"insecureSkipVerify": True}},
            "tokenSecret": {"name": "t"},
            "serviceMonitor": {"enabled": True},
        },
        "podLabels": {"team": "ml"},
        "initContainers": [{"name": "wait", "image": "busybox"}],
    },
    "labels, file": {"nodeLabels": {"output": "file"}},
    "labels, node": {"nodeLabels": {"output": "node"}},
    "mps": MPS,
    "mps, settings by node": FILES | {"mps": {"enabled": True}},
}
SERVED = SETS | RIGHTS
"""What the real API server is asked to accept."""
