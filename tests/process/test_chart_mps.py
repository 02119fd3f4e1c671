"""The chart's second DaemonSet, which keeps the MPS daemons."""

from pathlib import Path
from typing import Any

import pytest

from proto.mps import MpsShare
from supervisor.config.options import OPTIONS
from supervisor.config.settings import load
from tests.fakes.helm import Object, container, environment, for_mps, mounts, newest, pod, the
from tests.process.chart_sets import MPS

SHARING = {"mps": {"resources": [{"name": "gpu", "replicas": 4}]}}
BY_VALUES: dict[str, Any] = {"sharing": SHARING}
BY_FILE = {"config": {"map": {"a": "sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}"}}}
OTHER = {"config": {"map": {"a": "sharing: {mps: , timeSlicing: }"}}}
RUNTIME = "/run/gpu-sharing-plugin"
OF_THE_RUNTIME = {"NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"}


def made(values: dict[str, Any]) -> list[Object]:
    """Return the objects for MPS."""
    return for_mps(newest().objects(values))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, False),
        (OTHER, False),
        ({"sharing": {"timeSlicing": {"resources": [{"name": "gpu", "replicas": 2}]}}}, False),
        ({"config": {"name": "a"}}, False),
        (BY_VALUES, True),
        (BY_FILE, True),
        ({"config": {"name": "a"}, "mps": {"enabled": True}}, True),
        ({"mps": {"enabled": True}}, True),
        ({"mps": {"enabled": False}}, False),
    ],
)
def test_it_is_there_only_where_a_configuration_shares_by_mps(
    values: dict[str, Any],
    wanted: bool,  # noqa: FBT001 - a table's column
) -> None:
    """The chart decides by the files that it can read, or as it is told."""
    assert len(made(values)) == wanted
    kind, _ = mounts(newest().objects(values))[RUNTIME]
    assert kind == ("hostPath" if wanted else "emptyDir")


def test_the_two_share_what_they_must() -> None:
    """Both pods have the same runtime folder and configuration, and each a state folder."""
    objects = newest().objects(BY_VALUES)
    plugin, mps = mounts(objects), mounts(for_mps(objects))
    assert mps[RUNTIME] == plugin[RUNTIME]
    assert mps["/config"] == plugin["/config"]
    state = "/var/lib/gpu-sharing-plugin"
    assert (plugin[state][1]["path"], mps[state][1]["path"]) == (state, f"{state}-mps")
    here, there = environment(objects), environment(for_mps(objects))
    assert there["METRICS_ADDRESS"] == ":9451"
    assert "METRICS_ADDRESS" not in here
    different = here.keys() ^ there.keys()
    assert different == {*OF_THE_RUNTIME, "METRICS_ADDRESS"}
    assert not [name for name in here.keys() & there.keys() if here[name] != there[name]]


def test_its_rights() -> None:
    """It may mount for the host, has the node's process IDs and all GPUs, and no token; the plugin
    gets none of this.
    """
    objects = newest().objects(BY_VALUES)
    mps = for_mps(objects)
    assert container(mps)["securityContext"]["privileged"]
    assert (pod(mps)["hostPID"], pod(objects).get("hostPID")) == (True, None)
    assert not pod(mps)["automountServiceAccountToken"]
    variables = environment(mps)
    assert variables["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert variables["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert container(objects)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "/run/nvidia/mps" not in mounts(objects)
    propagation = {
        mount["mountPath"]: mount["mountPropagation"]
        for mount in container(mps)["volumeMounts"]
        if "mountPropagation" in mount
    }
    assert propagation == {"/run/nvidia/mps": "Bidirectional", "/dev/shm": "HostToContainer"}


def test_what_is_added_to_the_plugin_is_not_added_here() -> None:
    """A flag for a file that only the plugin's pod mounts, such as a certificate, would keep this
    service from answering its probes, so that it would be restarted again and again.
    """
    added = {"extraArgs": ["--metrics-tls-cert=/v"], "extraEnv": [{"name": "A", "value": "b"}]}
    assert made(BY_VALUES | added) == made(BY_VALUES)


def test_an_upgrade_leaves_it_alone() -> None:
    """A new pod would end all clients: by default nothing but its deletion replaces it, and it is
    not there again for a changed configuration.
    """
    assert the(made(BY_VALUES), "DaemonSet")["spec"]["updateStrategy"] == {"type": "OnDelete"}
    other = {"sharing": {"mps": {"resources": [{"name": "gpu", "replicas": 8}]}}}
    assert made(other) == made(BY_VALUES)


def test_every_value() -> None:
    """Each value below `mps` appears in the field that its comment names."""
    mps = made(MPS)
    spec, found = pod(mps), mounts(mps)
    assert spec["hostNetwork"]
    assert spec["nodeSelector"] == {"gpu": "yes", "mps": "yes"}
    assert container(mps)["resources"] == {
        "requests": {"cpu": "20m", "memory": "128Mi"},
        "limits": {"memory": "1Gi"},
    }
    assert container(mps)["args"] == ["--log-level=debug"]
    assert environment(mps)["LOG_FORMAT"] == "json"
    assert container(mps)["ports"] == [{"name": "mps-metrics", "containerPort": 9999}]
    assert found["/var/lib/gpu-sharing-plugin"][1]["path"] == "/var/lib/mps"
    assert found["/run/mps"][1]["path"] == "/run/mps"
    assert found["/dev/shm"][1]["path"] == "/run/mps/shm"
    assert found["/driver-root"][1]["path"] == "/run/nvidia/driver"
    variables = environment(mps)
    assert variables["METRICS_ADDRESS"] == ":9999"
    assert variables["MPS_ROOT"] == environment(newest().objects(MPS))["MPS_ROOT"] == "/run/mps/"
    assert variables["MPS_CONTROL_PATH"] == "/usr/bin/nvidia-cuda-mps-control"
    assert variables["MIG_STRATEGY"] == "single"
    assert the(mps, "DaemonSet")["spec"]["updateStrategy"]["type"] == "RollingUpdate"
    without = made(BY_VALUES | {"mps": {"enableHostPID": False}})
    assert "hostPID" not in pod(without)


def test_the_label_of_a_node_chooses_the_same_file_for_both() -> None:
    """With files by node, the pod for MPS reads the node's label too."""
    mps = made(BY_FILE)
    assert pod(mps)["automountServiceAccountToken"]
    names = {variable["name"] for variable in container(mps)["env"]}
    assert {"CONFIG_DIR", "CONFIG_LABEL", "NODE_NAME"} <= names


@pytest.mark.parametrize("override", [{}, {"selectorLabelsOverride": {"a": "b"}}])
def test_neither_selects_the_pods_of_the_other(override: dict[str, Any]) -> None:
    """The selectors do not overlap, also with labels of the user's."""
    objects = newest().objects(BY_VALUES | override)
    plugin, mps = the(objects, "DaemonSet"), the(for_mps(objects), "DaemonSet")
    for one, other in ((plugin, mps), (mps, plugin)):
        wanted = one["spec"]["selector"]["matchLabels"].items()
        assert wanted <= one["spec"]["template"]["metadata"]["labels"].items()
        assert not wanted <= other["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("values", [BY_VALUES, MPS], ids=["few", "all"])
def test_the_service_accepts_its_settings(values: dict[str, Any], tmp_path: Path) -> None:
    """`mps` reads the variables and the file that the chart gives to the pod."""
    objects = newest().objects(values)
    variables = environment(for_mps(objects))
    known = {name for option in OPTIONS for name in option.environment}
    assert variables.keys() <= known | OF_THE_RUNTIME | {"NVIDIA_MIG_MONITOR_DEVICES"}
    path = tmp_path / "config.yaml"
    (settings,) = [o for o in objects if o["metadata"]["name"].endswith("-settings")]
    path.write_text(settings["data"]["config.yaml"])
    here = variables | {"CONFIG_FILE": str(path)}
    ((share,),) = load({}, here).shares.values()
    assert share.mps
    assert share.replicas == 4
    assert MpsShare().single is share.mps.single
