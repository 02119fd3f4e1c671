"""Rules that hold for all objects of the chart, whatever the values are."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from proto.worker import DeviceListStrategy
from supervisor.config.options import OPTIONS
from supervisor.config.settings import Settings, load
from tests.fakes.helm import Object, container, environment, for_mps, helms, newest, pod, the
from tests.process.chart_sets import EVERYTHING, FILES, SETS, SETTINGS

LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LABEL_NAME = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

KUBERNETES = ("1.25", "1.31", "1.37")
"""The validator's oldest and newest version of Kubernetes, and one in between."""

OF_OTHERS = ("monitoring.coreos.com",)
"""API groups for which the validator has no schema."""

SETS_OF_VALUES = pytest.mark.parametrize("values", SETS.values(), ids=SETS)

OF_THE_RUNTIME = {"NVIDIA_MIG_MONITOR_DEVICES", "NVIDIA_VISIBLE_DEVICES", "DP_DISABLE_HEALTHCHECKS"}


@SETS_OF_VALUES
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_object(values: dict[str, Any], version: str) -> None:
    """Each object matches the schema of its Kubernetes version and has no unknown field."""
    for item in newest().objects(values):
        if not item["apiVersion"].startswith(OF_OTHERS):
            kubernetes_validate.validate(item, version, strict=True)


@SETS_OF_VALUES
def test_both_helms_make_the_same(values: dict[str, Any]) -> None:
    """Helm 3 and Helm 4 render the same objects."""
    found = [helm.objects(values) for helm in helms()]
    if len(found) < len(("3", "4")):
        pytest.skip("only one Helm: run scripts/fetch-helm")
    key = _identity
    assert sorted(found[0], key=key) == sorted(found[1], key=key)


@SETS_OF_VALUES
@pytest.mark.parametrize("release", ["r", "1.2", "gpu-sharing-plugin", "r" * 53, "a-" * 26 + "b"])
def test_names_and_labels_are_legal(values: dict[str, Any], release: str) -> None:
    """Names have at most 63 characters and no dots, and Kubernetes accepts all labels."""
    for item in newest().objects(values, release=release):
        name = item["metadata"]["name"]
        assert re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name), name
        for label, value in item["metadata"]["labels"].items():
            assert LABEL_NAME.fullmatch(label), label
            assert LABEL_VALUE.fullmatch(value), value


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"release": "a"}, {"release": "b"}),
        ({"release": "r" * 53}, {"release": "r" * 52}),
        ({"release": "a", "namespace": "one"}, {"release": "a", "namespace": "two"}),
    ],
)
def test_two_releases_do_not_collide(first: dict[str, str], second: dict[str, str]) -> None:
    """Two releases share no object, and neither selects the other's pods."""
    here, there = (newest().objects(EVERYTHING | FILES, **place) for place in (first, second))
    assert not {_identity(item) for item in here} & {_identity(item) for item in there}
    if "namespace" not in first:
        labels = the(there, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
        wanted = the(here, "DaemonSet")["spec"]["selector"]["matchLabels"]
        assert not wanted.items() <= labels.items()


@SETS_OF_VALUES
def test_no_value_changes_the_selector(values: dict[str, Any]) -> None:
    """No value changes the DaemonSet's selector: Kubernetes does not allow that in an upgrade."""
    plain = the(newest().objects(), "DaemonSet")["spec"]["selector"]
    assert the(newest().objects(values), "DaemonSet")["spec"]["selector"] == plain
    assert not {label for label in plain["matchLabels"] if "version" in label or "chart" in label}


@SETS_OF_VALUES
def test_every_selector_selects_the_pods_of_the_daemon_set(values: dict[str, Any]) -> None:
    """The DaemonSet, the Service and the PodMonitor select the DaemonSet's pods, and the DaemonSet
    for MPS selects only its own.
    """
    objects = newest().objects(values)
    labels = the(objects, "DaemonSet")["spec"]["template"]["metadata"]["labels"]
    others = [the([item], "DaemonSet") for item in for_mps(objects)]
    theirs = [other["spec"]["template"]["metadata"]["labels"].items() for other in others]
    for item in objects:
        found = item.get("spec", {}).get("selector", {})
        selector = found.get("matchLabels", found).items()
        if item in others:
            assert [selector <= other for other in theirs] == [True]
            assert not selector <= labels.items()
        elif item["kind"] == "ServiceMonitor":
            assert selector <= the(objects, "Service")["metadata"]["labels"].items()
        elif "selector" in item.get("spec", {}):
            assert selector <= labels.items()
            assert not [other for other in theirs if selector <= other]


def test_by_default_there_is_no_access_to_the_api_server() -> None:
    """By default the pod has no token and there is no role, so it cannot use the API server."""
    objects = newest().objects()
    assert not pod(objects)["automountServiceAccountToken"]
    assert not [item for item in objects if "Role" in item["kind"]]
    used = {"NODE_EVENTS", "NODE_CONDITION", "NODE_LABELS", "CONFIG_DIR", "DRA_CHECK"}
    assert not used & {variable["name"] for variable in container(objects)["env"]}


@pytest.mark.parametrize(
    ("values", "rules"),
    [
        (FILES, {"nodes": "get list watch"}),
        ({"events": {"enabled": True}}, {"nodes": "get list watch", "events": "create patch"}),
        (
            {"nodeCondition": {"enabled": True}},
            {"nodes": "get list watch", "nodes/status": "get patch"},
        ),
        ({"nodeTaint": {"enabled": True}}, {"nodes": "get list watch patch"}),
        (
            {"draCheck": {"enabled": True}},
            {"nodes": "get list watch", "resourceslices": "list"},
        ),
        ({"nodeLabels": {"output": "node"}}, {"nodes": "get list watch patch"}),
    ],
)
def test_rights_are_those_of_the_enabled_features(
    values: dict[str, Any], rules: dict[str, str]
) -> None:
    """Each feature adds the token, the node's name and the rights that it needs, and no more."""
    objects = newest().objects(values)
    role = the(objects, "ClusterRole")
    assert {rule["resources"][0]: " ".join(rule["verbs"]) for rule in role["rules"]} == rules
    binding = the(objects, "ClusterRoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    account = the(objects, "ServiceAccount")["metadata"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]
    assert pod(objects)["serviceAccountName"] == account["name"]
    assert pod(objects)["automountServiceAccountToken"]
    names = {variable["name"]: variable for variable in container(objects)["env"]}
    assert names["NODE_NAME"]["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}


def test_nodefeature_objects_need_rights_in_our_namespace_only() -> None:
    """For NodeFeature objects there is a role in the pod's namespace, and none for the cluster."""
    objects = newest().objects({"gfd": {"enabled": True}})
    assert not [item for item in objects if item["kind"].startswith("Cluster")]
    rules = the(objects, "Role")["rules"]
    assert {rule["resources"][0]: rule["verbs"] for rule in rules} == {
        "nodefeatures": ["get", "create", "patch", "delete"],
        "pods": ["get"],
    }
    account = the(objects, "ServiceAccount")["metadata"]
    (subject,) = the(objects, "RoleBinding")["subjects"]
    assert (subject["name"], subject["namespace"]) == (account["name"], account["namespace"])
    assert pod(objects)["automountServiceAccountToken"]


def test_a_file_needs_no_right() -> None:
    """For labels in a file the pod has no token and no role."""
    objects = newest().objects({"nodeLabels": {"output": "file"}})
    assert not pod(objects)["automountServiceAccountToken"]
    assert not [item for item in objects if "Role" in item["kind"]]


def test_a_new_configuration_restarts_no_pod() -> None:
    """A changed configuration file restarts no pod, because the service reloads it; a changed
    simulated node does.
    """
    first, second = ({"config": {"map": {"default": text}}} for text in ("{}", "version: v1"))
    assert newest().objects(first) != newest().objects(second)
    assert _pods(first) == _pods(second)
    assert _pods({"simulatedNode": {"gpus": [{}]}}) != _pods({"simulatedNode": {"gpus": [{}, {}]}})


@SETS_OF_VALUES
def test_the_probes_have_their_paths_and_limits(values: dict[str, Any]) -> None:
    """A start may take five minutes and a hang 30 seconds; a failed readiness probe restarts
    nothing.
    """
    found = container(newest().objects(values))
    tls = {"scheme": "HTTPS"} if "METRICS_TLS_CERT" in environment(newest().objects(values)) else {}
    paths = ("/livez", "/readyz")
    live, ready = ({"httpGet": {"path": path, "port": "metrics"} | tls} for path in paths)
    assert found["startupProbe"] == live | {"periodSeconds": 5, "failureThreshold": 60}
    patience = {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3}
    assert found["livenessProbe"] == live | patience
    assert found["readinessProbe"] == ready | {"periodSeconds": 5, "timeoutSeconds": 5}


@SETS_OF_VALUES
def test_volumes_and_mounts_are_paired(values: dict[str, Any]) -> None:
    """Each volume is mounted exactly once, and each mount has a volume."""
    objects = newest().objects(values)
    volumes = [volume["name"] for volume in pod(objects)["volumes"]]
    assert sorted(volumes) == sorted(mount["name"] for mount in container(objects)["volumeMounts"])
    assert len(volumes) == len(set(volumes))


@SETS_OF_VALUES
def test_the_service_accepts_the_charts_settings(values: dict[str, Any], tmp_path: Path) -> None:
    """`run` accepts the variables, files and flags that the chart gives to the pod."""
    settings = _settings(newest().objects(values), tmp_path)
    if values.items() >= EVERYTHING.items():
        plugin = settings.configuration.flags.plugin
        assert plugin.list_strategies == (DeviceListStrategy.ENVVAR, DeviceListStrategy.CDI_CRI)
        assert settings.address == ("", 9500)
    if values.items() >= SETTINGS.items():
        assert settings.configuration.health.recovery.probes == 5
    assert bool(settings.node) == ("simulatedNode" in values)


def _settings(objects: list[Object], folder: Path) -> Settings:
    """Return the settings of `run` in the pod, with its files in *folder*."""
    variables = environment(objects)
    known = {name for option in OPTIONS for name in option.environment}
    assert variables.keys() <= known | OF_THE_RUNTIME
    for item in objects:
        for name, text in item.get("data", {}).items() if item["kind"] == "ConfigMap" else ():
            (folder / name).write_text(text)
    given = container(objects).get("env", [])
    variables |= {variable["name"]: "a-node" for variable in given if "valueFrom" in variable}
    if "CONFIG_DIR" in variables:
        variables["CONFIG_DIR"] = str(folder)
    if "CONFIG_FILE" in variables:
        variables["CONFIG_FILE"] = str(folder / Path(variables["CONFIG_FILE"]).name)
    flags = {}
    for argument in container(objects).get("args", []):
        flag, _, value = argument.partition("=")
        (option,) = [option for option in OPTIONS if flag in option.flags]
        flags[option.path] = value.replace("/node/", f"{folder}/")
    return load(flags, {name: variables[name] for name in variables.keys() & known})


def _identity(item: Object) -> tuple[str, str, str]:
    metadata = item["metadata"]
    return item["kind"], metadata.get("namespace", ""), metadata["name"]


def _pods(values: dict[str, Any]) -> Object:
    template: Object = the(newest().objects(values), "DaemonSet")["spec"]["template"]
    return template
