"""Settings from flags, environment, file and defaults."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from simulator.node_file import default_node
from supervisor.config.options import OPTIONS
from supervisor.config.settings import Settings, load

ALL_LAYERS = """
version: v1
flags:
  failOnInitError: false
  plugin: {containerDriverRoot: /file}
health: {staleAfter: 12500ms, hangAfter: 4}
"""
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
CONFIGURATION: dict[str, Any] = {
    "version": "v1",
    "flags": {
        "migStrategy": "none",
        "failOnInitError": True,
        "mpsRoot": "/run/nvidia/mps",
        "nvidiaDriverRoot": "/",
        "nvidiaDevRoot": "",
        "gdrcopyEnabled": False,
        "gdsEnabled": False,
        "mofedEnabled": False,
        "useNodeFeatureAPI": None,
        "deviceDiscoveryStrategy": "auto",
        "plugin": {
            "passDeviceSpecs": False,
            "deviceListStrategy": ("envvar",),
            "deviceIDStrategy": "uuid",
            "cdiAnnotationPrefix": "cdi.k8s.io/",
            "nvidiaCTKPath": "/usr/bin/nvidia-ctk",
            "containerDriverRoot": "/driver-root",
            "sharedDevicesAllocationPolicy": "distributed",
        },
        "gfd": None,
    },
    "resources": {"gpus": (), "mig": ()},
    "sharing": {"mps": None, "timeSlicing": None},
    "imex": {"channelIDs": (), "required": False},
    "health": {
        "staleAfter": 10.0,
        "hangAfter": 15.0,
        "pollInterval": 5.0,
        "rescanInterval": 30.0,
        "exitWithoutAccess": 60.0,
        "occupied": "report",
        "dra": "report",
        "fabricAfter": 120.0,
        "licence": "report",
        "recovery": {"mode": "proof", "quietPeriod": 30.0, "probes": 3},
        "grey": {"after": 60.0, **dict.fromkeys(GREY, "report")},
        "probe": "",
        "probeInterval": 3600.0,
        "probeTimeout": 60.0,
        "xids": {},
    },
    "usage": {"interval": 5.0},
    "unifiedMemory": "system",
}
SERVICE: dict[str, Any] = {
    "configDir": "",
    "configLabel": "nvidia.com/device-plugin.config",
    "configDefault": "",
    "configFallbackStrategies": ("named", "single"),
    "nodeName": "",
    "nodeEvents": False,
    "nodeCondition": False,
    "nodeTaint": False,
    "draCheck": False,
    "nodeLabels": "off",
    "nodeLabelsFile": None,
    "nodeLabelsHealth": False,
    "nodeLabelsInterval": None,
    "machineTypeFile": None,
    "podName": "",
    "configFile": "",
    "resourceConfig": "",
    "devicePluginPath": "/var/lib/kubelet/device-plugins",
    "kubeletSocket": None,
    "runtimeDir": "/run/gpu-sharing-plugin",
    "stateDir": "/var/lib/gpu-sharing-plugin",
    "kernelLog": "/dev/kmsg",
    "metricsAddress": ":9450",
    "metricsTlsCert": "",
    "metricsTlsKey": "",
    "metricsClientCa": "",
    "metricsTokenFile": "",
    "metricsAllowedHosts": (),
    "podResourcesSocket": "/var/lib/kubelet/pod-resources/kubelet.sock",
    "podLabels": True,
    "podUsage": True,
    "cdiSpecDir": "/var/run/cdi",
    "cdiKind": "k8s.device-plugin.nvidia.com/gpu",
    "cdiFeatureFlags": (),
    "cdiDisableHooks": (),
    "mpsControlPath": "",
    "simulatedNode": "",
    "logFormat": "text",
    "logLevel": "info",
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Write a configuration file; return its path."""
    path = tmp_path / "config.yaml"
    path.write_text(ALL_LAYERS)
    return str(path)


def plain(settings: Settings) -> dict[str, Any]:
    """Return every field of the configuration and of the service's settings."""
    parts = (settings.configuration, settings.service)
    return {
        name: value
        for part in parts
        for name, value in msgspec.to_builtins(part, enc_hook=float).items()
    }


def test_all_defaults() -> None:
    """All defaults are as in the table: to change a default changes it for every user."""
    settings = load({}, {})
    assert plain(settings) == CONFIGURATION | SERVICE
    assert (settings.shares, settings.address, settings.node) == ({}, ("", 9450), None)
    assert settings.service.registration_socket == "/var/lib/kubelet/device-plugins/kubelet.sock"
    assert settings.notices == ()


ROOT = "flags.plugin.containerDriverRoot"
FAIL = "flags.failOnInitError"


@pytest.mark.parametrize(
    ("flags", "environment", "with_file", "expected"),
    [
        ({}, {}, False, "/driver-root"),
        ({}, {}, True, "/file"),
        ({}, {"DRIVER_ROOT_CTR_PATH": "/env"}, False, "/env"),
        ({}, {"DRIVER_ROOT_CTR_PATH": "/env"}, True, "/env"),
        ({ROOT: "/flag"}, {}, False, "/flag"),
        ({ROOT: "/flag"}, {}, True, "/flag"),
        ({ROOT: "/flag"}, {"DRIVER_ROOT_CTR_PATH": "/env"}, True, "/flag"),
        ({}, {"CONTAINER_DRIVER_ROOT": "/alias"}, True, "/alias"),
        ({}, {"CONTAINER_DRIVER_ROOT": "/alias", "DRIVER_ROOT_CTR_PATH": "/env"}, True, "/env"),
        ({}, {"CONTAINER_DRIVER_ROOT": "/alias", "DRIVER_ROOT_CTR_PATH": ""}, True, "/alias"),
        ({}, {"DRIVER_ROOT_CTR_PATH": ""}, True, "/file"),
        ({}, {"DRIVER_ROOT_CTR_PATH": ""}, False, "/driver-root"),
    ],
    ids=[
        "default",
        "file over default",
        "environment over default",
        "environment over file",
        "flag over default",
        "flag over file",
        "flag over environment",
        "alias over file",
        "name over alias",
        "alias where the name is empty",
        "an empty variable is unset, before a file",
        "an empty variable is unset",
    ],
)
def test_precedence(
    file: str,
    flags: dict[str, str],
    environment: dict[str, str],
    with_file: bool,  # noqa: FBT001 - a column of the table
    expected: str,
) -> None:
    """A flag wins over the environment, then comes the file, then the default."""
    named = {"CONFIG_FILE": file} if with_file else {}
    settings = load(flags, environment | named)
    assert settings.configuration.flags.plugin.container_driver_root == expected


@pytest.mark.parametrize(
    ("flags", "environment", "with_file", "expected"),
    [
        ({}, {}, False, True),
        ({}, {}, True, False),
        ({}, {"FAIL_ON_INIT_ERROR": "true"}, True, True),
        ({}, {"FAIL_ON_INIT_ERROR": "0"}, False, False),
        ({FAIL: "true"}, {"FAIL_ON_INIT_ERROR": "false"}, True, True),
        ({FAIL: "false"}, {"FAIL_ON_INIT_ERROR": "true"}, False, False),
    ],
)
def test_precedence_of_booleans(
    file: str,
    flags: dict[str, str],
    environment: dict[str, str],
    with_file: bool,  # noqa: FBT001 - a column of the table
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """A boolean of a higher layer wins over a lower layer, whether it is true or false."""
    named = {"service.configFile": file} if with_file else {}
    assert load(flags | named, environment).configuration.flags.fail_on_init_error is expected


def test_a_flag_keeps_the_files_other_keys(file: str) -> None:
    """A flag for one key of a section keeps the file's other keys of that section."""
    settings = load({"service.configFile": file, ROOT: "/flag"}, {})
    assert settings.configuration.flags.plugin.container_driver_root == "/flag"
    assert settings.configuration.flags.fail_on_init_error is False
    assert settings.configuration.health.stale_after == 12.5
    assert settings.configuration.health.hang_after == 4.0


def test_the_flag_that_names_a_file_wins_over_the_variable(file: str) -> None:
    """With --config-file, the file that CONFIG_FILE names is not read."""
    settings = load({"service.configFile": file}, {"CONFIG_FILE": "/absent"})
    assert settings.configuration.flags.plugin.container_driver_root == "/file"


def test_each_value_has_its_source(file: str) -> None:
    """The source of each value is the highest layer that sets it."""
    flags = {ROOT: "/flag", "service.configFile": file, "service.logLevel": "debug"}
    settings = load(flags, {"MIG_STRATEGY": "single", "DRIVER_ROOT_CTR_PATH": "/env"})
    assert {path: source for path, source in settings.sources.items() if source != "default"} == {
        "service.configFile": "flag",
        "service.logLevel": "flag",
        "version": "file",
        "flags.migStrategy": "environment",
        "flags.failOnInitError": "file",
        "flags.plugin.containerDriverRoot": "flag",
        "health.staleAfter": "file",
        "health.hangAfter": "file",
    }


def test_without_settings_all_sources_are_default() -> None:
    """Without settings, each value of the configuration and service has the source default."""
    expected = {"version", "resources.gpus", "resources.mig", "sharing.timeSlicing", "sharing.mps"}
    expected |= {"usage.interval", "unifiedMemory"}
    expected |= {"imex.channelIDs", "imex.required", "health.staleAfter", "health.hangAfter"}
    expected |= {"health.pollInterval", "health.rescanInterval", "health.xids"}
    expected |= {"health.exitWithoutAccess", "health.occupied", "health.dra"}
    expected |= {"health.probe", "health.probeInterval", "health.probeTimeout"}
    for section in ("recovery", "grey"):
        expected |= {f"health.{section}.{name}" for name in CONFIGURATION["health"][section]}
    expected |= {"health.fabricAfter", "health.licence"}
    expected |= {f"flags.{name}" for name in CONFIGURATION["flags"]} - {"flags.plugin"}
    expected |= {f"flags.plugin.{name}" for name in CONFIGURATION["flags"]["plugin"]}
    settings = load({}, {})
    expected |= {f"service.{name}" for name in msgspec.to_builtins(settings.service)}
    assert settings.sources == dict.fromkeys(expected, "default")


def test_the_sources_of_a_section_that_only_the_file_has(tmp_path: Path) -> None:
    """Keys of a section that the file leaves out have the source default."""
    path = tmp_path / "config.yaml"
    path.write_text("sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2}]}}")
    sources = load({"service.configFile": str(path)}, {}).sources
    assert {name: source for name, source in sources.items() if name.startswith("sharing.")} == {
        "sharing.timeSlicing.resources": "file",
        "sharing.timeSlicing.renameByDefault": "default",
        "sharing.timeSlicing.failRequestsGreaterThanOne": "default",
        "sharing.mps": "default",
    }


def test_the_simulated_node_comes_from_its_flag_only() -> None:
    """The simulated node has no environment variable, so that none can fake GPUs."""
    (option,) = [option for option in OPTIONS if option.path == "service.simulatedNode"]
    assert option.environment == ()


def test_a_simulated_node_is_read_with_its_defaults(tmp_path: Path) -> None:
    """A node file may be JSON, and gets defaults for what it leaves out."""
    path = tmp_path / "node.json"
    path.write_text('{"gpus": [' + ",".join(8 * ["{}"]) + "]}")
    node = load({"service.simulatedNode": str(path)}, {}).node
    assert node is not None
    assert [gpu.uuid for gpu in node.gpus] == [gpu.uuid for gpu in default_node().gpus]


@pytest.mark.parametrize("content", ["", "# all is default\n", "{}", "flags: {}\n"])
def test_an_empty_file_keeps_the_defaults(tmp_path: Path, content: str) -> None:
    """A file without settings keeps all defaults."""
    path = tmp_path / "config.yaml"
    path.write_text(content)
    assert load({"service.configFile": str(path)}, {}).configuration == load({}, {}).configuration
