"""Cases for each value of the chart: the value, where to look in the objects, and what must be
there.
"""

from typing import Any

from supervisor.version import VERSION
from tests.process.chart_looks import (
    Case,
    annotations,
    at,
    field_of,
    file,
    grey,
    health,
    kinds,
    label,
    mounted,
    of_container,
    of_pod,
    on_nodes_with,
    recovery,
    variable,
)

OWN_DRIVER = {"deviceListStrategy": "cdi-cri", "nvidiaDriverRoot": "/run/nvidia/driver"}
"""A CDI strategy, and a driver whose folder has no tools."""
DEVICE_PLUGINS = {"type": "Directory", "readOnly": False}
TOOLS = {"type": "DirectoryOrCreate", "readOnly": True}
MODEL = {"context": {"runAsNonRoot": False}}
NODES: dict[str, Any] = {
    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}
}
GPU_LABELS = [
    "feature.node.kubernetes.io/pci-10de.present",
    "feature.node.kubernetes.io/pci-0302_10de.present",
    "feature.node.kubernetes.io/pci-0300_10de.present",
    "feature.node.kubernetes.io/cpu-model.vendor_id",
    "nvidia.com/gpu.present",
]
LEAST = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SYS_ADMIN = {
    "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]},
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
PRIVILEGED = {"privileged": True, "readOnlyRootFilesystem": True}
FILES = {"map": {"a": "{version: v1}"}, "default": "a"}
MONITOR = {"enabled": True}
SCRAPE: dict[str, Any] = {
    "port": "metrics",
    "honorLabels": True,
    "interval": "15s",
    "relabelings": [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}],
}
POD_LABELS = ("DaemonSet", "spec", "template", "metadata", "labels")
INIT = [{"name": "a", "image": "b"}]
SHARING = {"timeSlicing": {"resources": [{"name": "gpu", "replicas": 4}]}}
DIGEST = f"sha256:{'0' * 64}"
SERVICE = "gpus-gpu-sharing-plugin-metrics"
HOSTS = ",".join(
    (
        "a.b",
        *(
            SERVICE + end
            for end in ("", ".gpu-nodes", ".gpu-nodes.svc", ".gpu-nodes.svc.cluster.local")
        ),
    )
)

TLS: dict[str, Any] = {"metrics": {"tls": {"secret": "s"}}}
TLS_CLIENTS: dict[str, Any] = {"metrics": {"tls": {"secret": "s", "clientCA": "ca.crt"}}}
TOKEN: dict[str, Any] = {"metrics": {"tokenSecret": {"name": "t"}}}
FEATURES = "/etc/kubernetes/node-feature-discovery/features.d"
OWN_FEATURES = {
    "extraVolumes": [{"name": "nfd", "hostPath": {"path": FEATURES}}],
    "extraVolumeMounts": [{"name": "nfd", "mountPath": f"{FEATURES}/"}],
}
"""NFD's folder, mounted by the user."""
GFD = {"gfd": {"enabled": True}}
LABELS: list[tuple[dict[str, Any], str]] = [
    (GFD, "nodefeature"),
    (GFD | {"nfd": {"enableNodeFeatureApi": True}}, "nodefeature"),
    (GFD | {"nfd": {"enableNodeFeatureApi": False}}, "file"),
    (GFD | OWN_FEATURES, "file"),
    (GFD | {"nodeLabels": {"output": "node"}}, "node"),
    ({"nodeLabels": {"output": "file"}}, "file"),
]
"""Values, and how the labels then get to the node."""

RIGHTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, LEAST),
    ({"compatWithCPUManager": True}, PRIVILEGED),
    ({"migStrategy": "mixed"}, SYS_ADMIN),
    ({"migStrategy": "single", "compatWithCPUManager": True}, PRIVILEGED),
    ({"deviceListStrategy": "volume-mounts"}, SYS_ADMIN),
    ({"deviceListStrategy": "cdi-annotations"}, PRIVILEGED),
    ({"deviceListStrategy": "cdi-cri", "runtimeClassName": "nvidia"}, LEAST),
    (
        {"deviceListStrategy": "cdi-cri", "runtimeClassName": "nvidia", "migStrategy": "mixed"},
        SYS_ADMIN,
    ),
    ({"config": {"name": "a"}}, SYS_ADMIN),
    ({"config": {"name": "a", "uses": []}}, LEAST),
    ({"config": {"name": "a"}, "migStrategy": "none"}, LEAST),
    ({"config": {"name": "a", "uses": ["volume-mounts"]}}, SYS_ADMIN),
    ({"config": {"name": "a", "uses": ["cdi"]}}, PRIVILEGED),
    ({"config": {"name": "a", "uses": ["cdi"]}, "runtimeClassName": "nvidia"}, LEAST),
    ({"config": {"name": "a", "uses": ["mig", "devices"]}}, PRIVILEGED),
    ({"config": FILES}, LEAST),
    ({"config": {"map": {"default": "{}", "m": "flags: {migStrategy: single}"}}}, SYS_ADMIN),
    (
        {"config": {"map": {"a": "flags: {plugin: {deviceListStrategy: [envvar, cdi-cri]}}"}}},
        PRIVILEGED,
    ),
    ({"config": {"map": {"a": "flags: {plugin: {passDeviceSpecs: true}}"}}}, PRIVILEGED),
]
"""Values, and the least rights that work with them; docs/security.md has the same table."""

ENVIRONMENT: list[Case] = [
    ({"resourceConfig": "gpu:a:4"}, variable("NVIDIA_DRIVER_RESOURCE_CONFIG"), "gpu:a:4"),
    ({"compatWithCPUManager": True}, variable("PASS_DEVICE_SPECS"), "true"),
    ({"compatWithCPUManager": False}, variable("PASS_DEVICE_SPECS"), "false"),
    ({"migStrategy": "single"}, variable("MIG_STRATEGY"), "single"),
    ({"migStrategy": "single"}, variable("NVIDIA_MIG_MONITOR_DEVICES"), "all"),
    ({"migStrategy": "none"}, variable("NVIDIA_MIG_MONITOR_DEVICES"), None),
    ({}, variable("FAIL_ON_INIT_ERROR"), "false"),
    ({"failOnInitError": True}, variable("FAIL_ON_INIT_ERROR"), "true"),
    ({"failOnInitError": None}, variable("FAIL_ON_INIT_ERROR"), None),
    ({"deviceListStrategy": "volume-mounts"}, variable("DEVICE_LIST_STRATEGY"), "volume-mounts"),
    (
        {"deviceListStrategy": ["envvar", "cdi-cri"]},
        variable("DEVICE_LIST_STRATEGY"),
        "envvar,cdi-cri",
    ),
    ({"deviceIDStrategy": "index"}, variable("DEVICE_ID_STRATEGY"), "index"),
    (
        {"sharedDevicesAllocationPolicy": "packed"},
        variable("SHARED_DEVICES_ALLOCATION_POLICY"),
        "packed",
    ),
    ({"nvidiaDriverRoot": "/run/driver"}, variable("NVIDIA_DRIVER_ROOT"), "/run/driver"),
    ({"nvidiaDevRoot": "/host"}, variable("NVIDIA_DEV_ROOT"), "/host"),
    ({"gdrcopyEnabled": True}, variable("GDRCOPY_ENABLED"), "true"),
    ({"gdsEnabled": True}, variable("GDS_ENABLED"), "true"),
    ({"mofedEnabled": False}, variable("MOFED_ENABLED"), "false"),
    ({"deviceDiscoveryStrategy": "tegra"}, variable("DEVICE_DISCOVERY_STRATEGY"), "tegra"),
    ({"cdi": {"nvidiaHookPath": "/hook"}}, variable("NVIDIA_CDI_HOOK_PATH"), "/hook"),
    ({"cdi": {"featureFlags": ["a", "b"]}}, variable("CDI_FEATURE_FLAGS"), "a,b"),
    ({"cdi": {"featureFlags": "a,b"}}, variable("CDI_FEATURE_FLAGS"), "a,b"),
    ({"cdi": {"disableHooks": "all"}}, variable("CDI_DISABLE_HOOKS"), "all"),
    ({"cdi": {"annotationPrefix": "a/"}}, variable("CDI_ANNOTATION_PREFIX"), "a/"),
    ({"cdi": {"kind": "a.com/gpu"}}, variable("CDI_KIND"), "a.com/gpu"),
    ({"imex": {"channelIDs": [0]}}, variable("IMEX_CHANNEL_IDS"), "0"),
    ({"imex": {"required": True}}, variable("IMEX_REQUIRED"), "true"),
    ({"logFormat": "json"}, variable("LOG_FORMAT"), "json"),
    ({"logLevel": "debug"}, variable("LOG_LEVEL"), "debug"),
    ({"metrics": {"port": 9500}}, variable("METRICS_ADDRESS"), ":9500"),
    ({"metrics": {"podLabels": False}}, variable("POD_LABELS"), "false"),
    ({"metrics": {"allowedHosts": ["a.b", "*.c"]}}, variable("METRICS_ALLOWED_HOSTS"), "a.b,*.c"),
    (
        {"metrics": {"allowedHosts": ["a.b"], "service": {"enabled": True}}},
        variable("METRICS_ALLOWED_HOSTS"),
        HOSTS,
    ),
    ({"metrics": {"serviceMonitor": MONITOR}}, variable("METRICS_ALLOWED_HOSTS"), HOSTS[4:]),
    (
        {"namespaceOverride": "n", "metrics": {"service": {"enabled": True}}},
        variable("METRICS_ALLOWED_HOSTS"),
        HOSTS[4:].replace("gpu-nodes", "n"),
    ),
    (TLS, variable("METRICS_TLS_CERT"), "/tls/tls.crt"),
    (TLS, variable("METRICS_TLS_KEY"), "/tls/tls.key"),
    (TLS, variable("METRICS_CLIENT_CA"), None),
    (TLS_CLIENTS, variable("METRICS_CLIENT_CA"), "/tls/ca.crt"),
    (TOKEN, variable("METRICS_TOKEN_FILE"), "/token/token"),
    (
        {"metrics": {"tokenSecret": {"name": "t", "key": "k"}}},
        variable("METRICS_TOKEN_FILE"),
        "/token/k",
    ),
    ({"events": {"enabled": True}}, variable("NODE_EVENTS"), "true"),
    ({"nodeCondition": {"enabled": True}}, variable("NODE_CONDITION"), "true"),
    ({"nodeTaint": {"enabled": True}}, variable("NODE_TAINT"), "true"),
    ({"draCheck": {"enabled": True}}, variable("DRA_CHECK"), "true"),
    ({}, variable("NODE_LABELS"), None),
    *((values, variable("NODE_LABELS"), output) for values, output in LABELS),
    ({"nodeLabels": {"output": "node"}}, field_of("NODE_NAME"), "spec.nodeName"),
    ({"nodeLabels": {"output": "nodefeature"}}, field_of("POD_NAME"), "metadata.name"),
    ({"nodeLabels": {"output": "file", "health": True}}, variable("NODE_LABELS_HEALTH"), "true"),
    (
        {"gfd": {"enabled": True, "sleepInterval": "30s"}},
        variable("NODE_LABELS_INTERVAL"),
        "30s",
    ),
    ({"config": FILES}, variable("CONFIG_DIR"), "/config"),
    ({"config": FILES}, variable("CONFIG_DEFAULT"), "a"),
    ({"config": FILES | {"label": "a.com/b"}}, variable("CONFIG_LABEL"), "a.com/b"),
    (
        {"config": FILES | {"fallbackStrategies": ["single", "empty"]}},
        variable("CONFIG_FALLBACK_STRATEGIES"),
        "single,empty",
    ),
    ({"simulatedNode": {"gpus": [{}]}}, variable("NVIDIA_VISIBLE_DEVICES"), "void"),
    ({"health": {"staleAfter": "15s"}}, variable("CONFIG_FILE"), "/config/config.yaml"),
    ({"extraEnv": [{"name": "A", "value": "b"}]}, variable("A"), "b"),
]

POD: list[Case] = [
    ({"runtimeClassName": "nvidia"}, of_pod("runtimeClassName"), "nvidia"),
    ({"priorityClassName": "a"}, of_pod("priorityClassName"), "a"),
    ({"nodeSelector": {"gpushare": "true"}}, of_pod("nodeSelector"), {"gpushare": "true"}),
    ({}, on_nodes_with, GPU_LABELS),
    ({"nfdAffinity": False}, of_pod("affinity"), None),
    ({"affinity": {"nodeAffinity": NODES}}, of_pod("affinity"), {"nodeAffinity": NODES}),
    ({"affinity": {"podAffinity": {}}}, on_nodes_with, GPU_LABELS),
    ({"nodeSelector": {"gpushare": "true"}}, of_pod("affinity"), None),
    ({"nodeSelector": {"a": "b"}, "nfdAffinity": True}, on_nodes_with, GPU_LABELS),
    ({"simulatedNode": {"gpus": [{}]}}, of_pod("affinity"), None),
    ({"tolerations": [{"operator": "Exists"}]}, of_pod("tolerations"), [{"operator": "Exists"}]),
    ({"imagePullSecrets": [{"name": "a"}]}, of_pod("imagePullSecrets"), [{"name": "a"}]),
    ({"podSecurityContext": MODEL["context"]}, of_pod("securityContext"), MODEL["context"]),
    ({"devicePlugin": {"enableHostNetwork": True}}, of_pod("hostNetwork"), True),
    ({}, of_pod("hostPID"), None),
    ({"usage": {"perContainer": True}}, of_pod("hostPID"), True),
    (
        {"devicePlugin": {"enableHostNetwork": True}},
        of_pod("dnsPolicy"),
        "ClusterFirstWithHostNet",
    ),
    ({"image": {"repository": "a/b"}}, of_container("image"), f"a/b:{VERSION}"),
    ({"image": {"tag": "c"}}, of_container("image"), "gpu-sharing-plugin:c"),
    ({"image": {"digest": DIGEST}}, of_container("image"), f"gpu-sharing-plugin@{DIGEST}"),
    ({"image": {"pullPolicy": "Always"}}, of_container("imagePullPolicy"), "Always"),
    (
        {"resources": {"requests": None, "limits": {"cpu": "1"}}},
        of_container("resources"),
        {"limits": {"cpu": "1"}},
    ),
    (
        {"securityContext": {"privileged": False}},
        of_container("securityContext"),
        {"privileged": False},
    ),
    ({"extraArgs": ["--kubelet-socket="]}, of_container("args"), ["--kubelet-socket="]),
    (
        {"simulatedNode": {"gpus": [{}]}, "extraArgs": ["--log-level=debug"]},
        of_container("args"),
        ["--simulated-node=/node/node.yaml", "--log-level=debug"],
    ),
    (
        {"metrics": {"port": 9500}},
        of_container("ports"),
        [{"name": "metrics", "containerPort": 9500}],
    ),
    *((values, of_container("securityContext"), rights) for values, rights in RIGHTS),
]

MOUNTS: list[Case] = [
    (
        # The kubelet has this folder wherever its --root-dir is.
        {"kubeletDir": "/k/"},
        mounted("/var/lib/kubelet/device-plugins"),
        ("hostPath", DEVICE_PLUGINS | {"path": "/var/lib/kubelet/device-plugins"}),
    ),
    (
        {"devicePluginDir": "/d"},
        mounted("/var/lib/kubelet/device-plugins"),
        ("hostPath", DEVICE_PLUGINS | {"path": "/d"}),
    ),
    (
        {"kubeletDir": "/k"},
        mounted("/var/lib/kubelet/pod-resources"),
        ("hostPath", {"path": "/k/pod-resources", "type": "Directory", "readOnly": True}),
    ),
    (
        {"stateDir": "/s"},
        mounted("/var/lib/gpu-sharing-plugin"),
        ("hostPath", {"path": "/s", "type": "DirectoryOrCreate", "readOnly": False}),
    ),
    ({}, mounted("/run/gpu-sharing-plugin"), ("emptyDir", {"medium": "Memory", "readOnly": False})),
    ({}, mounted("/var/log/pods"), None),
    ({}, mounted("/usr/lib/wsl"), None),
    (
        {"wsl": True},
        mounted("/usr/lib/wsl"),
        ("hostPath", {"path": "/usr/lib/wsl", "type": "Directory", "readOnly": True}),
    ),
    *(
        (
            {"usage": {"perContainer": True}},
            mounted(path),
            ("hostPath", {"path": path, "type": "DirectoryOrCreate", "readOnly": True}),
        )
        for path in ("/var/log/pods", "/var/log/containers")
    ),
    ({}, mounted(FEATURES), None),
    (GFD, mounted(FEATURES), None),
    (
        {"nodeLabels": {"output": "file"}},
        mounted(FEATURES),
        ("hostPath", {"path": FEATURES, "type": "DirectoryOrCreate", "readOnly": False}),
    ),
    (
        GFD | OWN_FEATURES,
        mounted(f"{FEATURES}/"),
        ("hostPath", {"path": FEATURES, "readOnly": False}),
    ),
    ({}, mounted("/var/run/cdi"), None),
    (
        {"deviceListStrategy": "cdi-cri"},
        mounted("/var/run/cdi"),
        ("hostPath", {"path": "/var/run/cdi", "type": "DirectoryOrCreate", "readOnly": False}),
    ),
    ({"deviceListStrategy": "cdi-cri"}, mounted("/driver-root"), None),
    *(
        (
            {"deviceListStrategy": "cdi-cri"},
            mounted(f"/driver-root/{folder}"),
            ("hostPath", {"path": f"/{folder}", "type": "Directory", "readOnly": True}),
        )
        for folder in ("usr", "lib", "dev")
    ),
    (
        {"deviceListStrategy": "cdi-cri", "nvidiaDriverRoot": "/"},
        mounted("/driver-root"),
        ("hostPath", {"path": "/", "type": "Directory", "readOnly": True}),
    ),
    ({"config": {"name": "a"}}, mounted("/driver-root/usr"), None),
    ({"config": {"name": "a"}}, mounted("/var/run/cdi"), None),
    ({}, mounted("/tls"), None),
    (TLS, mounted("/tls"), ("secret", {"secretName": "s", "readOnly": True})),
    (TOKEN, mounted("/token"), ("secret", {"secretName": "t", "readOnly": True})),
    (
        {"nvidiaDriverRoot": "/run/driver"},
        mounted("/driver-root"),
        ("hostPath", {"path": "/run/driver", "type": "Directory", "readOnly": True}),
    ),
    ({"nvidiaDriverRoot": "/run/driver"}, mounted("/host"), None),
    ({"deviceListStrategy": "cdi-cri"}, mounted("/host"), None),
    ({"deviceListStrategy": "cdi-cri", "nvidiaDriverRoot": "/"}, mounted("/host"), None),
    (OWN_DRIVER, mounted("/host/usr/local"), ("hostPath", TOOLS | {"path": "/usr/local"})),
    (OWN_DRIVER, mounted("/host"), None),
    (OWN_DRIVER, mounted("/host/usr/bin"), ("hostPath", TOOLS | {"path": "/usr/bin"})),
    (
        OWN_DRIVER | {"cdi": {"nvidiaHookPath": "/opt/nvidia/toolkit/nvidia-cdi-hook"}},
        mounted("/host/opt/nvidia"),
        ("hostPath", TOOLS | {"path": "/opt/nvidia"}),
    ),
    (
        OWN_DRIVER | {"cdi": {"nvidiaHookPath": "/opt/bin/nvidia-cdi-hook"}},
        mounted("/host/opt/bin"),
        ("hostPath", TOOLS | {"path": "/opt/bin"}),
    ),
    (
        OWN_DRIVER | {"cdi": {"nvidiaHookPath": "/usr/local/nvidia/toolkit/nvidia-cdi-hook"}},
        mounted("/host/usr/local/nvidia"),
        None,
    ),
    ({}, mounted("/config"), None),
    (
        {"config": FILES},
        mounted("/config"),
        ("configMap", {"name": "gpus-gpu-sharing-plugin-configs", "readOnly": True}),
    ),
    ({"config": {"name": "a"}}, mounted("/config"), ("configMap", {"name": "a", "readOnly": True})),
    (
        {
            "extraVolumes": [{"name": "v", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "v", "mountPath": "/v"}],
        },
        mounted("/v"),
        ("emptyDir", {"readOnly": False}),
    ),
]

OBJECTS: list[Case] = [
    ({}, kinds, {"DaemonSet", "ServiceAccount"}),
    ({"serviceAccount": {"create": False}}, kinds, {"DaemonSet"}),
    ({"serviceAccount": {"create": False, "name": "a"}}, of_pod("serviceAccountName"), "a"),
    ({"serviceAccount": {"annotations": {"a": "b"}}}, annotations("ServiceAccount"), {"a": "b"}),
    (
        {"updateStrategy": {"type": "OnDelete"}},
        at("DaemonSet", "spec", "updateStrategy", "type"),
        "OnDelete",
    ),
    (
        {"podAnnotations": {"a": "b"}},
        at("DaemonSet", "spec", "template", "metadata", "annotations"),
        {"a": "b"},
    ),
    ({"podLabels": {"a": "b"}}, at(*POD_LABELS, "a"), "b"),
    ({"podLabels": {"a": "b"}}, at(*POD_LABELS, "app.kubernetes.io/instance"), "gpus"),
    ({"initContainers": INIT}, of_pod("initContainers"), INIT),
    ({"nameOverride": "a"}, at("DaemonSet", "metadata", "name"), "gpus-a"),
    ({"nameOverride": "a"}, label("DaemonSet", "app.kubernetes.io/name"), "a"),
    ({"fullnameOverride": "a"}, at("DaemonSet", "metadata", "name"), "a"),
    ({"namespaceOverride": "a"}, at("DaemonSet", "metadata", "namespace"), "a"),
    (
        {"selectorLabelsOverride": {"a": "b"}},
        at("DaemonSet", "spec", "selector", "matchLabels"),
        {"a": "b"},
    ),
    ({"config": FILES}, file("-configs", "a"), {"version": "v1"}),
    ({"sharing": SHARING}, file("-settings", "config.yaml"), {"version": "v1", "sharing": SHARING}),
    ({"simulatedNode": {"gpus": [{}]}}, file("-node", "node.yaml"), {"gpus": [{}]}),
    health("staleAfter", "15s"),
    health("hangAfter", 20),
    health("pollInterval", "2500ms"),
    health("rescanInterval", "1m"),
    health("exitWithoutAccess", 0),
    health("exitWithoutAccess", "5m"),
    health("occupied", "unhealthy"),
    health("dra", "withhold"),
    health("fabricAfter", "5m"),
    health("licence", "unhealthy"),
    health("xids", {"79": "ignore"}),
    recovery("mode", "never"),
    recovery("quietPeriod", "1m"),
    recovery("probes", 5),
    health("probe", "/opt/check --quick"),
    health("probeInterval", "6h"),
    health("probeTimeout", "2m"),
    grey("after", "2m"),
    grey("pcie", "unhealthy"),
    grey("slowdown", "unhealthy"),
    grey("clocks", "unhealthy"),
    grey("eccCorrected", "unhealthy"),
    grey("spareRows", "unhealthy"),
    grey("persistence", "unhealthy"),
    grey("fabric", "unhealthy"),
    grey("gpuMissing", "unhealthy"),
    ({"metrics": {"service": {"enabled": True}}}, at("Service", "spec", "clusterIP"), "None"),
    (
        {"metrics": {"service": {"enabled": True, "annotations": {"a": "b"}}}},
        annotations("Service"),
        {"a": "b"},
    ),
    (
        {"metrics": {"podMonitor": MONITOR}},
        at("PodMonitor", "spec", "podMetricsEndpoints"),
        [SCRAPE],
    ),
    (
        {"metrics": {"podMonitor": MONITOR | {"labels": {"release": "a"}}}},
        label("PodMonitor", "release"),
        "a",
    ),
    (
        {"metrics": {"podMonitor": MONITOR | {"interval": None, "relabelings": []}}},
        at("PodMonitor", "spec", "podMetricsEndpoints"),
        [{"port": "metrics", "honorLabels": True}],
    ),
    (
        {"metrics": {"podMonitor": MONITOR | {"metricRelabelings": [{"action": "drop"}]}}},
        at("PodMonitor", "spec", "podMetricsEndpoints", 0, "metricRelabelings"),
        [{"action": "drop"}],
    ),
]

SCRAPES: list[Case] = [
    (
        {"metrics": TLS["metrics"] | TOKEN["metrics"] | {"podMonitor": MONITOR}},
        at("PodMonitor", "spec", "podMetricsEndpoints"),
        [
            SCRAPE
            | {
                "scheme": "https",
                "tlsConfig": {
                    "ca": {"secret": {"name": "s", "key": "ca.crt"}},
                    "serverName": f"{SERVICE}.gpu-nodes.svc",
                },
                "authorization": {"credentials": {"name": "t", "key": "token"}},
            }
        ],
    ),
    (
        {
            "metrics": {
                "tls": {"secret": "s", "config": {"insecureSkipVerify": True}},
                "podMonitor": MONITOR,
            }
        },
        at("PodMonitor", "spec", "podMetricsEndpoints", 0, "tlsConfig"),
        {"insecureSkipVerify": True},
    ),
    ({"metrics": {"serviceMonitor": MONITOR}}, at("ServiceMonitor", "spec", "endpoints"), [SCRAPE]),
    ({"metrics": {"serviceMonitor": MONITOR}}, at("Service", "spec", "clusterIP"), "None"),
    (
        {"metrics": {"serviceMonitor": MONITOR | {"labels": {"release": "a"}}}},
        label("ServiceMonitor", "release"),
        "a",
    ),
    (
        {"metrics": {"serviceMonitor": MONITOR | {"interval": None, "relabelings": []}}},
        at("ServiceMonitor", "spec", "endpoints"),
        [{"port": "metrics", "honorLabels": True}],
    ),
    (
        {"metrics": {"serviceMonitor": MONITOR | {"metricRelabelings": [{"action": "drop"}]}}},
        at("ServiceMonitor", "spec", "endpoints", 0, "metricRelabelings"),
        [{"action": "drop"}],
    ),
]

CASES = [*ENVIRONMENT, *POD, *MOUNTS, *OBJECTS, *SCRAPES]
