"""Values that the chart refuses, with an error that says what to do, and values that it ignores."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from supervisor.config.settings import load
from tests.fakes.helm import BINARIES, CHART, named, newest
from tests.unit.test_mps_settings import READ, REFUSED
from tests.unit.test_settings_errors import MEANT, UNKNOWN, VALUES
from tests.unit.test_sharing import entries
from tests.unit.test_sharing_errors import ENTRIES, TYPES

CHECKED = {**UNKNOWN, **MEANT, **VALUES}

NVIDIA: dict[str, Any] = {
    "legacyDaemonsetAPI": None,
    "config": {"map": {}, "name": "", "default": "", "fallbackStrategies": ["named", "single"]},
    "compatWithCPUManager": None,
    "migStrategy": None,
    "failOnInitError": None,
    "deviceListStrategy": None,
    "deviceIDStrategy": None,
    "nvidiaDriverRoot": None,
    "gdrcopyEnabled": None,
    "gdsEnabled": None,
    "mofedEnabled": None,
    "deviceDiscoveryStrategy": None,
    "nameOverride": "",
    "fullnameOverride": "",
    "namespaceOverride": "",
    "selectorLabelsOverride": {},
    "allowDefaultNamespace": False,
    "imagePullSecrets": [],
    "image": {"repository": "a/b", "pullPolicy": "IfNotPresent", "tag": ""},
    "updateStrategy": {"type": "RollingUpdate"},
    "podAnnotations": {},
    "podSecurityContext": {},
    "securityContext": {},
    "resources": {},
    "nodeSelector": {},
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}},
    "tolerations": [{"key": "CriticalAddonsOnly", "operator": "Exists"}],
    "priorityClassName": "system-node-critical",
    "runtimeClassName": None,
    "devicePlugin": {"enabled": True},
    "gfd": {
        "enabled": False,
        "nameOverride": "gpu-feature-discovery",
        "namespaceOverride": "",
        "noTimestamp": None,
        "sleepInterval": None,
        "securityContext": {"privileged": True},
    },
    "nfd": {
        "nameOverride": "node-feature-discovery",
        "enableNodeFeatureApi": False,
        "master": {"serviceAccount": {"name": "nfd", "create": True}, "config": {"a": ["b"]}},
        "worker": {"tolerations": [{"operator": "Equal"}], "config": {"sources": {"pci": {}}}},
    },
    "mps": {"root": "/run/nvidia/mps", "enableHostPID": True},
    "cdi": {"nvidiaHookPath": None},
}
"""The structure of the values of NVIDIA's chart v0.20.0."""

NVIDIA_ALL: dict[str, Any] = NVIDIA | {
    "nfd": {
        "enabled": False,
        "global": {},
        "image": {"repository": "registry.k8s.io/nfd/node-feature-discovery", "tag": None},
        "imagePullSecrets": [],
        "featureGates": {"NodeFeatureGroupAPI": False},
        "priorityClassName": "",
        "postDeleteCleanup": True,
        "master": {"enable": True, "config": {"extraLabelNs": ["nvidia.com"]}},
        "worker": {
            "enable": True,
            "config": {"sources": {"pci": {"deviceClassWhitelist": ["02"]}}},
        },
        "topologyUpdater": {"enable": False},
        "gc": {"enable": True},
        "prometheus": {"enable": False},
    }
}
"""What `helm get values --all` shows of a release of it: the subchart's values are among them."""

IKTOS: dict[str, Any] = {
    "legacyDaemonsetAPI": False,
    "compatWithCPUManager": False,
    "migStrategy": "none",
    "failOnInitError": True,
    "deviceListStrategy": "envvar",
    "deviceIDStrategy": "uuid",
    "nvidiaDriverRoot": "/",
    "resourceConfig": "gpu:gpu-mem-gb:-1",
    "nameOverride": "",
    "fullnameOverride": "",
    "selectorLabelsOverride": {},
    "imagePullSecrets": [],
    "image": {"repository": "a/b", "pullPolicy": "Always", "tag": "devel"},
    "updateStrategy": {"type": "RollingUpdate"},
    "podSecurityContext": {},
    "securityContext": {},
    "resources": {},
    "nodeSelector": {"gpushare": "true"},
    "affinity": {},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "runtimeClassName": None,
}
"""The values of the iktos fork's chart, without `namespace`."""

FILES = {"a": "{}", "b": "{}"}
SHARED = {"mps": {"resources": [{"name": "gpu", "replicas": 4}]}}

REASONS = [
    ({"namespace": "kube-system"}, "cannot use namespace: give Helm's --namespace"),
    ({"legacyDaemonsetAPI": True}, "extensions/v1beta1 was removed in Kubernetes 1.16"),
    ({"devicePlugin": {"enabled": False}}, "cannot disable devicePlugin"),
    (
        {"gfd": {"enabled": True, "sleepInterval": 60}},
        'gfd.sleepInterval "60": write a time as 60s or 1m30s, or infinite',
    ),
    ({"nodeLabels": {"output": "node"}, "gfd": {"sleepInterval": "1d"}}, 'sleepInterval "1d"'),
    (
        {"serviceAccount": {"create": False}, "nodeLabels": {"output": "node"}},
        "cannot grant RBAC rights without a ServiceAccount: set serviceAccount.name",
    ),
    ({"nfd": {"enabled": True}}, "helm install nfd oci://registry.k8s.io/nfd/charts/"),
    ({"deviceDiscoveryStrategy": "vfio"}, 'cannot use deviceDiscoveryStrategy "vfio"'),
    (
        {"nfdAffinity": True, "affinity": {"nodeAffinity": {"a": "b"}}},
        "cannot use nfdAffinity together with affinity.nodeAffinity: add the terms",
    ),
    (
        {"image": {"repository": "nvcr.io/nvidia/k8s-device-plugin", "tag": "v0.20.0"}},
        'image.repository "nvcr.io/nvidia/k8s-device-plugin": that is NVIDIA\'s image, which has',
    ),
    (
        {"image": {"repository": "r.example.com:5000/a:0.1.0"}},
        'image.repository "r.example.com:5000/a:0.1.0": write 0.1.0 into image.tag instead',
    ),
    ({"image": {"repository": "a@sha256:12"}}, "write sha256:12 into image.digest instead"),
    ({"image": {"repository": "https://a.example.com/b"}}, "write it without https://"),
    ({"image": {"repository": "a.example.com/B"}}, "container runtimes accept lower-case letters"),
    ({"image": {"repository": ""}}, "container runtimes accept lower-case letters"),
    ({"image": {"digest": "sha256:12"}}, 'digest "sha256:12": write sha256: and 64 hexadecimal'),
    (
        {"extraArgs": ["--log-level=debug", "--mig-strategy=mixed"]},
        "cannot use --mig-strategy in extraArgs: the chart would not give the pod what it needs",
    ),
    (
        {"extraEnv": [{"name": "DEVICE_LIST_STRATEGY", "value": "cdi-cri"}]},
        "cannot use DEVICE_LIST_STRATEGY in extraEnv: the chart would not give the pod what it",
    ),
    ({"extraEnv": [{"name": "NODE_TAINT", "value": "true"}]}, "write the value nodeTaint.enabled"),
    ({"config": {"default": "a"}}, 'config.default "a": there are no files, because config.map'),
    (
        {"config": {"map": FILES, "default": "a", "uses": ["cdi"]}},
        "config.uses without config.name",
    ),
    ({"securityContext": {"runAsNonRoot": True}}, "cannot use securityContext.runAsNonRoot: the"),
    ({"podSecurityContext": {"runAsUser": 65534}}, "podSecurityContext.runAsUser 65534: the serv"),
    *(
        ({"resources": {"limits": {"memory": low}}}, "the service needs up to 128Mi, and more with")
        for low in ("127Mi", "100M", "0.1Gi", 134217727, "64e6", "134217727999m")
    ),
    ({"mps": {"resources": {"limits": {"memory": "1Mi"}}}}, 'mps.resources.limits.memory "1Mi"'),
    (
        {"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
        "cannot use metrics.podMonitor together with metrics.serviceMonitor: each pod would be",
    ),
    ({"metrics": {"tls": {"clientCA": "ca.crt"}}}, "metrics.tls without metrics.tls.secret: write"),
    (
        {
            "metrics": {
                "tls": {"secret": "s", "clientCA": "ca.crt"},
                "podMonitor": {"enabled": True},
            }
        },
        "cannot scrape with metrics.tls.clientCA: Prometheus needs a certificate of this CA",
    ),
    ({"metrics": {"tokenSecret": {"name": "t", "key": ""}}}, "metrics.tokenSecret without a key"),
    (
        {"podLabels": {"app.kubernetes.io/name": "a"}},
        "cannot use podLabels.app.kubernetes.io/name: the DaemonSet selects its pods by this label",
    ),
    (
        {"serviceAccount": {"create": False}, "events": {"enabled": True}},
        "cannot grant RBAC rights without a ServiceAccount: set serviceAccount.name",
    ),
    ({"config": {"name": "a", "map": FILES}}, "cannot use config.name together with config.map"),
    ({"config": {"name": "a"}, "health": {"staleAfter": "5s"}}, "cannot use health or sharing"),
    ({"config": {"map": {"a": "a: [", "b": "{}"}}}, "cannot use config.map.a: "),
    ({"config": {"map": {"a": "- b"}}}, "cannot use config.map.a: "),
    ({"config": {"map": FILES, "default": "c"}}, 'config.default "c": config.map has only a, b'),
    ({"config": {"map": FILES}}, "set config.default to one of a, b"),
    ({"config": {"map": {"a": "{}"}, "fallbackStrategies": ["named"]}}, "set config.default"),
    ({"deviceListStrategy": "envvar,cdi"}, 'deviceListStrategy "cdi": write envvar or volume'),
    ({"deviceListStrategy": ["cdi"]}, 'deviceListStrategy "cdi": write envvar or volume-mounts'),
    (
        {"metrics": {"allowedHosts": ["a.b", "http://a.b"]}},
        'metrics.allowedHosts "http://a.b": write names without a port, such as gpus.example.com',
    ),
    ({"metrics": {"allowedHosts": ["a.b:9450"]}}, 'cannot use metrics.allowedHosts "a.b:9450"'),
    ({"deviceListStrategy": []}, "deviceListStrategy without a value: write at least one of"),
    ({"resourceConfig": "gpu:a"}, 'resourceConfig "gpu:a": write ORIGINAL:NEW:REPLICAS'),
    ({"resourceConfig": "gpu:a:0"}, "write 1 to 69905 replicas, or -1 for one replica per"),
    ({"resourceConfig": "gpu:a:69906"}, "write 1 to 69905 replicas, or -1 for one replica per"),
    ({"resourceConfig": "gpu:A:2"}, '"nvidia.com/A" is not a resource name; after nvidia.com/'),
    ({"resourceConfig": "gpu:a:2, nvidia.com/gpu:b:4"}, "nvidia.com/gpu is given twice; remove"),
    ({"health": {"staleAfter": "soon"}}, 'health.staleAfter: "soon" is not a positive time'),
    ({"health": {"hangAfter": 2}}, 'health.hangAfter: "2" is too short: each process reports'),
    ({"health": {"pollInterval": "1ms"}}, '"1ms" is too short; write at least 100ms'),
    ({"health": {"staleAfter": "9s"}}, "health.staleAfter 9s with health.pollInterval 5s: write"),
    ({"health": {"exitWithoutAccess": "never"}}, "5m or 2.5, or 0 for never"),
    ({"health": {"xids": {"79": "bad"}}}, 'health.xids: 79: "bad" is not allowed; write fatal or'),
    ({"sharing": {"timeSlicing": {"resources": []}}}, "the list is empty; leave the section out"),
    (
        {"sharing": {"mps": {}}},
        "cannot use sharing.mps: it has no resources to share; leave it out",
    ),
    ({"sharing": SHARED, "mps": {"enabled": False}}, "cannot share by MPS with mps.enabled=false"),
    (
        {"mps": {"root": "/" + "r" * 41}},
        "it has 42 bytes, too many for the sockets of MPS below it",
    ),
    (
        {
            "sharing": SHARED,
            "devicePlugin": {"enableHostNetwork": True},
            "mps": {"enableHostNetwork": True, "metricsPort": 9450},
        },
        "cannot use port 9450 twice on the host network: set another mps.metricsPort",
    ),
]

SCHEMA: list[tuple[dict[str, Any], str]] = [
    ({"migStrateggy": "none"}, "migStrateggy"),
    ({"metrics": {"prot": 1}}, "prot"),
    ({"migStrategy": "all"}, "migStrategy"),
    ({"failOnInitError": "true"}, "failOnInitError"),
    ({"nvidiaDriverRoot": "driver"}, "nvidiaDriverRoot"),
    ({"config": {"map": {"": "{}"}}}, "map"),
    ({"config": {"map": {"a": {"version": "v1"}}}}, "map"),
    ({"nodeSelector": {"a": True}}, "nodeSelector"),
    ({"metrics": {"port": 0}}, "port"),
    ({"simulatedNode": {"gpus": 2}}, "gpus"),
    ({"simulatedNode": {"gpu": [{}]}}, "simulatedNode"),
    ({"imex": {"channelIDs": [2048]}}, "channelIDs"),
    ({"extraArgs": ["mps"]}, "extraArgs"),
    ({"fullnameOverride": "Upper"}, "fullnameOverride"),
    ({"fullnameOverride": "a" * 64}, "fullnameOverride"),
]


@pytest.mark.parametrize(("values", "words"), REASONS)
def test_values_that_cannot_work_are_refused_with_advice(
    values: dict[str, Any], words: str
) -> None:
    """The error begins with "cannot" and says what to write or install instead."""
    refusal = newest().refusal(values)
    assert words in refusal
    assert "cannot " in refusal


FRACTIONS = {"a whole number as a fraction", "a fraction for a number"}
"""Helm reads 4.0 as 4."""
SELECTED = {name for name, (_, problem) in ENTRIES.items() if problem.startswith(".devices")}
"""Which devices an entry names is left to the program."""
BAD_FILES: dict[str, tuple[str, str]] = {
    **{f"{name}: {text}": (text, problem) for name, (text, problem) in CHECKED.items()},
    **{f"{name}: {text}": (text, problem) for name, (text, problem) in TYPES.items()},
    **{
        f"{name}: {entry}": (entries(entry), f"sharing.timeSlicing.resources[0]{problem}")
        for name, (entry, problem) in ENTRIES.items()
        if name not in SELECTED
    },
    **{f"{name}: {text}": (f"sharing: {{{text}}}", why) for name, (text, why) in REFUSED.items()},
}


@pytest.mark.parametrize(
    ("text", "problem"),
    [case for name, case in BAD_FILES.items() if name.partition(":")[0] not in FRACTIONS],
)
def test_a_bad_file_is_refused_in_the_words_of_the_program(text: str, problem: str) -> None:
    """What the program refuses in a file, the chart refuses at once, and says the same."""
    refusal = newest().refusal({"config": {"map": {"a": text}}})
    # A letter that is off: the chart lists the allowed keys, but does not guess.
    words = re.sub(r' \(did you mean "\w+"\?\)', "", problem)
    assert f"cannot use config.map.a: {words}" in re.sub(r' \(did you mean "\w+"\?\)', "", refusal)


GOOD = """
version: v1
flags:
  migStrategy: mixed
  useNodeFeatureAPI: null
  plugin: {deviceListStrategy: [envvar, cdi-cri], deviceIDStrategy: index}
  gfd: {oneshot: true, anything: [1, a]}
resources: {gpus: [{pattern: "*H100*", name: h100}], mig: [{pattern: "1g.*", name: small}]}
sharing:
  mps:
    failRequestsGreaterThanOne: false
    renameByDefault:
    resources:
    - {name: h100, replicas: 1, memoryLimit: 16777216, threads: none}
    - {name: mig-2g.20gb, replicas: 2, rename: other, threads: 100, memoryLimit: share}
  timeSlicing:
    resources:
    - {name: nvidia.com/gpu, replicas: 2, rename: a.b-c, devices: [0, "0:1"]}
    - {name: gpu, replicas: 3, devices: 2}
    - {name: small, replicas: 69905, devices: all}
imex: {channelIDs: [0], required: true}
health:
  staleAfter: 3s
  pollInterval: 1.5
  hangAfter: 1h
  exitWithoutAccess: 0
  recovery: {mode: never, quietPeriod: 500ms, probes: 1}
  xids: {79: ignore, "94": fatal}
"""


def test_a_good_file_is_accepted(tmp_path: Path) -> None:
    """The chart refuses no file that the program accepts."""
    (tmp_path / "a").write_text(GOOD)
    assert load({"service.configFile": str(tmp_path / "a")}, {})
    mps = [f"sharing: {{{text}}}" for text, _ in READ.values()]
    for text in (GOOD, "", "version: v1", "sharing:", "flags: {plugin: {}}", *mps):
        assert newest().objects({"config": {"map": {"a": text}}})


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize(("values", "name"), SCHEMA)
def test_unknown_and_ill_typed_values_are_refused(
    values: dict[str, Any], name: str, binary: str
) -> None:
    """The schema refuses the value and names it, under Helm 3 and Helm 4."""
    refusal = named(binary).refusal(values)
    assert "values don't meet the specifications of the schema" in refusal
    assert name in refusal


def emptied(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Return the structure of *values* with null for everything that is not a section."""
    return {
        key: emptied(value, f"{above}{key}.") if isinstance(value, dict) and value else None
        for key, value in values.items()
        if f"{above}{key}" not in {"updateStrategy", "mps.updateStrategy"}
    }


@pytest.mark.parametrize("binary", BINARIES)
def test_a_value_that_is_null_is_accepted(binary: str) -> None:
    """An empty key in a values file, which Helm removes, is like an empty section or list."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    helm = named(binary)
    assert helm.objects(dict.fromkeys(values))
    assert helm.objects(emptied(values))


@pytest.mark.parametrize(
    "name",
    [
        "gpu-sharing-plugin",
        "localhost/a",
        "localhost:5000/a",
        "r.example.com:5000/a/b_c--d.e",
        "a/b",
    ],
)
def test_the_name_of_an_image_is_accepted(name: str) -> None:
    """A registry may have upper-case letters and a port."""
    assert newest().objects({"image": {"repository": name, "digest": f"sha256:{'a' * 64}"}})


@pytest.mark.parametrize("enough", ["128Mi", "1Gi", 134217728, "135M", "2e8", "0.125Gi"])
def test_a_memory_limit_that_is_enough_is_accepted(enough: str | int) -> None:
    """Every way to write a quantity is understood."""
    assert newest().objects({"resources": {"limits": {"memory": enough}}})


def test_the_default_namespace_is_refused_unless_it_is_allowed() -> None:
    """A forgotten --namespace flag does not install a release into `default`."""
    helm = newest()
    assert 'namespace "default"' in helm.refusal({}, namespace="default")
    assert helm.objects({"allowDefaultNamespace": True}, namespace="default")
    assert helm.objects({"namespaceOverride": "kube-system"}, namespace="default")
    assert 'namespace "default"' in helm.refusal({"namespaceOverride": "default"})


@pytest.mark.parametrize("binary", BINARIES)
@pytest.mark.parametrize(
    "values", [NVIDIA, NVIDIA_ALL, IKTOS], ids=["nvidia", "nvidia, all", "iktos"]
)
def test_the_values_of_earlier_charts_are_accepted(values: dict[str, Any], binary: str) -> None:
    """A values file for NVIDIA's chart or the fork's chart works unchanged."""
    assert named(binary).objects(values)


@pytest.mark.parametrize(
    "values",
    [
        {"mps": {"root": "/a", "enableHostPID": False, "enableHostNetwork": True}},
        {"gfd": {"noTimestamp": True, "sleepInterval": "5s", "enableHostNetwork": True}},
        {"nodeLabels": {"output": "off", "health": True}, "gfd": {"enabled": True}},
        {"nfd": {"enableNodeFeatureApi": True, "master": {"a": 1}}},
        {"global": {"a": 1}},
    ],
)
def test_ignored_values_change_nothing(values: dict[str, Any]) -> None:
    """Values that are documented as ignored change no object."""
    helm = newest()
    assert helm.objects(values) == helm.objects()
