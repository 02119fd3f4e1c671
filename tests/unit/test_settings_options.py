"""Every option sets its setting, by flag and by environment variable."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from supervisor.commands.command_line import parser, values
from supervisor.config.option import Option
from supervisor.config.options import OPTIONS
from supervisor.config.settings import Settings, load

PLUGIN = "flags.plugin."

GIVEN: dict[str, tuple[str, object]] = {
    "service.configFile": ("", ""),
    "service.configDir": ("", ""),
    "service.configLabel": ("example.com/gpus", "example.com/gpus"),
    "service.configDefault": ("plain", "plain"),
    "service.configFallbackStrategies": ("empty, single", ("empty", "single")),
    "service.nodeName": ("node-1", "node-1"),
    "service.nodeEvents": ("false", False),
    "service.nodeCondition": ("f", False),
    "service.nodeTaint": ("0", False),
    "service.draCheck": ("F", False),
    "service.nodeLabels": ("file", "file"),
    "service.nodeLabelsFile": ("/features/gpus", "/features/gpus"),
    "service.nodeLabelsHealth": ("T", True),
    "service.nodeLabelsInterval": ("1m30s", 90.0),
    "service.machineTypeFile": ("/machine", "/machine"),
    "service.podName": ("pod-1", "pod-1"),
    "service.resourceConfig": ("gpu:shared:2", "gpu:shared:2"),
    "service.devicePluginPath": ("/plugins", "/plugins"),
    "service.kubeletSocket": ("/kubelet.sock", "/kubelet.sock"),
    "service.runtimeDir": ("/runtime", "/runtime"),
    "service.stateDir": ("/state", "/state"),
    "service.kernelLog": ("/kmsg", "/kmsg"),
    "service.metricsAddress": ("localhost:1", "localhost:1"),
    "service.metricsTlsCert": ("/cert", "/cert"),
    "service.metricsTlsKey": ("/key", "/key"),
    "service.metricsClientCa": ("/ca", "/ca"),
    "service.metricsTokenFile": ("/token", "/token"),
    "service.metricsAllowedHosts": ("gpus.example, *.b.c", ("gpus.example", "*.b.c")),
    "service.podResourcesSocket": ("/pods.sock", "/pods.sock"),
    "service.podLabels": ("false", False),
    "service.podUsage": ("false", False),
    "service.cdiSpecDir": ("/etc/cdi", "/etc/cdi"),
    "service.cdiKind": ("example.com/gpu", "example.com/gpu"),
    "service.cdiFeatureFlags": ("a-flag, another", ("a-flag", "another")),
    "service.cdiDisableHooks": ("all", ("all",)),
    "service.mpsControlPath": ("/usr/bin/control", "/usr/bin/control"),
    "service.simulatedNode": ("", ""),
    "service.logFormat": ("json", "json"),
    "service.logLevel": ("debug", "debug"),
    "flags.migStrategy": ("mixed", "mixed"),
    "flags.failOnInitError": ("false", False),
    "flags.mpsRoot": ("/run/mps", "/run/mps"),
    "flags.nvidiaDriverRoot": ("/run/nvidia/driver", "/run/nvidia/driver"),
    "flags.nvidiaDevRoot": ("/host", "/host"),
    "flags.gdrcopyEnabled": ("1", True),
    "flags.gdsEnabled": ("T", True),
    "flags.mofedEnabled": ("true", True),
    "flags.deviceDiscoveryStrategy": ("tegra", "tegra"),
    f"{PLUGIN}passDeviceSpecs": ("TRUE", True),
    f"{PLUGIN}deviceListStrategy": ("envvar,cdi-cri", ("envvar", "cdi-cri")),
    f"{PLUGIN}deviceIDStrategy": ("index", "index"),
    f"{PLUGIN}cdiAnnotationPrefix": ("cdi.example/", "cdi.example/"),
    f"{PLUGIN}nvidiaCTKPath": ("/opt/nvidia-ctk", "/opt/nvidia-ctk"),
    f"{PLUGIN}containerDriverRoot": ("/root", "/root"),
    f"{PLUGIN}sharedDevicesAllocationPolicy": ("packed", "packed"),
    "imex.channelIDs": ("0", (0,)),
    "imex.required": ("t", True),
}
"""By setting: a text that is not the default, and the value that it means."""


def at(settings: Settings, path: str) -> object:
    """Return the value of the setting at *path*."""
    tree: Any = msgspec.to_builtins(settings.configuration, enc_hook=float)
    tree["service"] = msgspec.to_builtins(settings.service)
    for name in path.split("."):
        tree = tree[name]
    return tuple(tree) if isinstance(tree, list) else tree


CERT, KEY, CLIENTS = (f"service.metrics{name}" for name in ("TlsCert", "TlsKey", "ClientCa"))
BESIDE = {CERT: {KEY: "/key"}, KEY: {CERT: "/cert"}, CLIENTS: {CERT: "/cert", KEY: "/key"}}
"""By setting: the other settings that it needs."""


def test_the_table_has_every_option() -> None:
    """The table above has each option."""
    assert sorted(GIVEN) == sorted(option.path for option in OPTIONS)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.path)
def test_every_flag_and_variable_sets_its_setting(option: Option) -> None:
    """Each flag, alias and variable sets its setting, and is the value's source."""
    text, value = GIVEN[option.path]
    for flag in option.flags:
        given = values(parser("1").parse_args(["run", f"{flag}={text}"]))
        settings = load({**BESIDE.get(option.path, {}), **given}, {})
        assert at(settings, option.path) == value
        assert settings.sources.get(option.path, "flag") == "flag"
    for name in option.environment:
        settings = load(BESIDE.get(option.path, {}), {name: text})
        assert at(settings, option.path) == value
        assert settings.sources.get(option.path, "environment") in {"environment", "default"}


def test_an_option_changes_nothing_else() -> None:
    """With all options given, each setting has its own value."""
    settings = load({path: text for path, (text, _) in GIVEN.items()}, {})
    assert {path: at(settings, path) for path in GIVEN} == {
        path: value for path, (_, value) in GIVEN.items()
    }


TEXTS = [option for option in OPTIONS if option.parse is str and len(GIVEN[option.path][0])]


@pytest.mark.parametrize("option", TEXTS, ids=lambda option: option.path)
def test_a_flag_wins_over_its_variable(option: Option) -> None:
    """A flag wins over the environment variable of the same option."""
    text, value = GIVEN[option.path]
    given = {**BESIDE.get(option.path, {}), option.path: text}
    assert at(load(given, {option.environment[0]: "/other"}), option.path) == value


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--device-list-strategy=cdi-cri"], ("cdi-cri",)),
        (["--device-list-strategy=envvar,volume-mounts"], ("envvar", "volume-mounts")),
        (
            ["--device-list-strategy=cdi-annotations", "--device-list-strategy=envvar"],
            ("cdi-annotations", "envvar"),
        ),
        (
            ["--device-list-strategy", "envvar , cdi-cri,", "--device-list-strategy=volume-mounts"],
            ("envvar", "cdi-cri", "volume-mounts"),
        ),
    ],
    ids=["one", "commas", "repeated", "both"],
)
def test_the_forms_of_a_list(arguments: list[str], expected: tuple[str, ...]) -> None:
    """A list flag takes commas, or is repeated, or both; a variable takes commas."""
    path = f"{PLUGIN}deviceListStrategy"
    given = values(parser("1").parse_args(["run", *arguments]))
    assert at(load(given, {}), path) == expected
    assert at(load({}, {"DEVICE_LIST_STRATEGY": ",".join(expected)}), path) == expected
    assert at(load(given, {"DEVICE_LIST_STRATEGY": "volume-mounts"}), path) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("cdi-cri", ("cdi-cri",)),
        ("[cdi-cri]", ("cdi-cri",)),
        ("[envvar, volume-mounts]", ("envvar", "volume-mounts")),
        ("- envvar\n- cdi-annotations", ("envvar", "cdi-annotations")),
    ],
    ids=["a word", "a list of one", "a list", "a list over lines"],
)
def test_the_list_strategy_in_a_file(
    tmp_path: Path, written: str, expected: tuple[str, ...]
) -> None:
    """In a file, deviceListStrategy may be a single word or a list."""
    path = tmp_path / "config.yaml"
    indented = written.replace("\n", "\n      ")
    path.write_text(f"flags:\n  plugin:\n    deviceListStrategy:\n      {indented}\n")
    found = load({"service.configFile": str(path)}, {}).configuration.flags.plugin
    assert found.list_strategies == expected


@pytest.mark.parametrize(
    "content",
    ["flags: {gfd: {oneshot: true, sleepInterval: 60s}}", "flags: {gfd: {}}"],
    ids=["settings", "none"],
)
def test_settings_of_gpu_feature_discovery_are_ignored(tmp_path: Path, content: str) -> None:
    """`flags.gfd` is ignored with a notice while the node is not labelled."""
    path = tmp_path / "config.yaml"
    path.write_text(content)
    (notice,) = load({"service.configFile": str(path)}, {}).notices
    assert notice == "flags.gfd has no effect while --node-labels is off"


def test_keys_that_charts_always_set_are_accepted(tmp_path: Path) -> None:
    """Keys without effect that each chart's file has are no error."""
    path = tmp_path / "config.yaml"
    path.write_text("flags: {mpsRoot: /run/nvidia/mps, useNodeFeatureAPI: true}")
    settings = load({"service.configFile": str(path)}, {"MPS_ROOT": "/run/mps"})
    assert settings.configuration.flags.mps_root == "/run/mps"
    assert settings.configuration.flags.use_node_feature_api is True
    assert settings.sources["flags.useNodeFeatureAPI"] == "file"
