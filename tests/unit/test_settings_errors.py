"""Errors for bad configuration files: one line with the place and the cause."""

from pathlib import Path

import pytest

from supervisor.config.settings import load
from tests.unit.refusal import message

CONFIGURATION = 'cannot use the configuration file "{path}": '
NODE = 'cannot use the node file "{path}": '
STALE = "health.staleAfter:"
TIME = "is not a positive time; write a time as 30s, 5m or 2.5"
SHORT = "is too short: each process reports only once a second; write at least 3s"
OBJECT = "Expected `object`, got"


TOP = "version, flags, resources, sharing, imex, health, usage, unifiedMemory"
FLAGS = (
    "migStrategy, failOnInitError, mpsRoot, nvidiaDriverRoot, nvidiaDevRoot, gdrcopyEnabled, "
    "gdsEnabled, mofedEnabled, useNodeFeatureAPI, deviceDiscoveryStrategy, plugin, gfd"
)
PLUGIN = (
    "passDeviceSpecs, deviceListStrategy, deviceIDStrategy, cdiAnnotationPrefix, nvidiaCTKPath, "
    "containerDriverRoot, sharedDevicesAllocationPolicy"
)
POLICY = "flags.plugin.sharedDevicesAllocationPolicy"
LISTS = "allowed: envvar, volume-mounts, cdi-annotations, cdi-cri"

UNKNOWN = {
    "at the top": ("nonsense: 1", f'unknown key "nonsense"; allowed keys: {TOP}'),
    "no part of the file": (
        "service: {logLevel: info}",
        f'unknown key "service"; allowed keys: {TOP}',
    ),
    "in flags": (
        "flags: {nonsense: 1}",
        f'flags: unknown key "nonsense"; allowed keys: {FLAGS}',
    ),
    "in another case": (
        "flags: {MIGSTRATEGY: single}",
        f'flags: unknown key "MIGSTRATEGY" (did you mean "migStrategy"?); allowed keys: {FLAGS}',
    ),
    "in flags.plugin": (
        "flags: {plugin: {nonsense: 1}}",
        f'flags.plugin: unknown key "nonsense"; allowed keys: {PLUGIN}',
    ),
    "in resources": (
        "resources: {cpus: []}",
        'resources: unknown key "cpus" (did you mean "gpus"?); allowed keys: gpus, mig',
    ),
    "in a pattern": (
        'resources: {mig: [{pattern: "*", name: a, replicas: 2}]}',
        'resources.mig[0]: unknown key "replicas"; allowed keys: pattern, name',
    ),
    "in sharing": (
        "sharing: {timeslicing: {}}",
        (
            'sharing: unknown key "timeslicing" (did you mean "timeSlicing"?); '
            "allowed keys: mps, timeSlicing"
        ),
    ),
    "in imex": (
        "imex: {channels: []}",
        (
            'imex: unknown key "channels" (did you mean "channelIDs"?); '
            "allowed keys: channelIDs, required"
        ),
    ),
    "in health": (
        "health: {old: 1}",
        (
            'health: unknown key "old"; allowed keys: staleAfter, hangAfter, pollInterval, '
            "rescanInterval, exitWithoutAccess, occupied, dra, fabricAfter, licence, recovery, "
            "grey, probe, probeInterval, probeTimeout, xids"
        ),
    ),
}
MEANT = {
    "a letter too many": (
        "flags: {migStrateggy: none}",
        f'flags: unknown key "migStrateggy" (did you mean "migStrategy"?); allowed keys: {FLAGS}',
    ),
    "at the wrong level": (
        "migStrategy: none",
        f'unknown key "migStrategy" (did you mean flags.migStrategy?); allowed keys: {TOP}',
    ),
    "a level too high": (
        "flags: {deviceListStrategy: envvar}",
        (
            'flags: unknown key "deviceListStrategy" (did you mean '
            f"flags.plugin.deviceListStrategy?); allowed keys: {FLAGS}"
        ),
    ),
    "a manifest": (
        "apiVersion: v1\nkind: ConfigMap\ndata: {config.yaml: 'version: v1'}",
        '"apiVersion" is of a Kubernetes manifest; pass only the text below data',
    ),
    "a truth in quotes": (
        'flags: {failOnInitError: "false"}',
        'flags.failOnInitError: "false" is a text; write false without quotes',
    ),
    "strategies with commas": (
        "flags: {plugin: {deviceListStrategy: 'envvar, cdi-cri'}}",
        (
            "flags.plugin.deviceListStrategy: Invalid enum value 'envvar, cdi-cri'; write a list: "
            f"[envvar, cdi-cri]; {LISTS}"
        ),
    ),
    "a number in quotes": (
        'health: {recovery: {probes: "4"}}',
        'health.recovery.probes: "4" is a text; write 4 without quotes',
    ),
    "a fraction for a number": (
        "imex: {channelIDs: [0.0]}",
        "imex.channelIDs[0]: 0.0 is not a whole number; write 0",
    ),
}
VALUES = {
    "text for a truth": (
        "flags: {failOnInitError: maybe}",
        "flags.failOnInitError: Expected `bool`, got `str`",
    ),
    "a number for a truth": (
        "imex: {required: 1}",
        "imex.required: Expected `bool`, got `int`",
    ),
    "a number for a path": (
        "flags: {plugin: {containerDriverRoot: 5}}",
        "flags.plugin.containerDriverRoot: Expected `str`, got `int`",
    ),
    "a value for a section": ("flags: {plugin: 5}", f"flags.plugin: {OBJECT} `int`"),
    "a section for a list": (
        "resources: {gpus: {}}",
        "resources.gpus: Expected `array`, got `object`",
    ),
    "an unknown MIG strategy": (
        "flags: {migStrategy: both}",
        "flags.migStrategy: Invalid enum value 'both'; allowed: none, single, mixed",
    ),
    "an unknown list strategy": (
        "flags: {plugin: {deviceListStrategy: env}}",
        f"flags.plugin.deviceListStrategy: Invalid enum value 'env'; {LISTS}",
    ),
    "an unknown list strategy in a list": (
        "flags: {plugin: {deviceListStrategy: [envvar, env]}}",
        f"flags.plugin.deviceListStrategy[1]: Invalid enum value 'env'; {LISTS}",
    ),
    "a number for a list strategy": (
        "flags: {plugin: {deviceListStrategy: 5}}",
        f"flags.plugin.deviceListStrategy: Expected `str | array`, got `int`; {LISTS}",
    ),
    "an unknown id strategy": (
        "flags: {plugin: {deviceIDStrategy: UUID}}",
        "flags.plugin.deviceIDStrategy: Invalid enum value 'UUID'; allowed: uuid, index",
    ),
    "an unknown policy": (
        "flags: {plugin: {sharedDevicesAllocationPolicy: best}}",
        f"{POLICY}: Invalid enum value 'best'; allowed: distributed, packed, spread",
    ),
    "GPUs in passthrough": (
        "flags: {deviceDiscoveryStrategy: vfio}",
        "flags.deviceDiscoveryStrategy: Invalid enum value 'vfio'; allowed: auto, nvml, tegra",
    ),
    "a channel that is no number": (
        "imex: {channelIDs: [a]}",
        "imex.channelIDs[0]: Expected `int`, got `str`",
    ),
    "a pattern without a name": (
        'resources: {gpus: [{pattern: "*"}]}',
        "resources.gpus[0]: Object missing required field `name`",
    ),
    "a name without a pattern": (
        "resources: {mig: [{name: a}]}",
        "resources.mig[0]: Object missing required field `pattern`",
    ),
    "an empty pattern": (
        'resources: {gpus: [{pattern: "", name: a}]}',
        "resources.gpus[0].pattern: Expected `str` of length >= 1",
    ),
    "another version": ("version: v2", 'version: "v2"; allowed: v1'),
    "a version that is a number": ("version: 1", "version: Expected `str`, got `int`"),
    "a time in words": ("health: {staleAfter: soon}", f'{STALE} "soon" {TIME}'),
    "no time": ("health: {staleAfter: 0}", f'{STALE} "0" {TIME}'),
    "no time, where 0 is allowed": (
        "health: {exitWithoutAccess: -1s}",
        f'health.exitWithoutAccess: "-1s" {TIME}, or 0 for never',
    ),
    "a time before": ("health: {staleAfter: -1s}", f'{STALE} "-1s" {TIME}'),
    "a time of two units": ("health: {staleAfter: 1h30m}", f'{STALE} "1h30m" {TIME}'),
    "an unknown unit": ("health: {staleAfter: 1d}", f'{STALE} "1d" {TIME}'),
    "a truth for a time": ("health: {staleAfter: true}", f'{STALE} "true" {TIME}'),
    "a time too short to hear of a process": (
        "health: {staleAfter: 500ms}",
        f'{STALE} "500ms" {SHORT}',
    ),
    "a hang shorter than a heartbeat": (
        "health: {hangAfter: 2.9}",
        f'health.hangAfter: "2.9" {SHORT}',
    ),
    "a time of two lines": ('health: {staleAfter: "1\\n2"}', f'{STALE} "1 2" {TIME}'),
}
SYNTAX = {
    "a list": ("- flags", f"{OBJECT} `array`"),
    "an empty list": ("[]", f"{OBJECT} `array`"),
    "a word": ("flags", f"{OBJECT} `str`"),
    "malformed": (
        "version: v1\nflags: a: b",
        "line 2, column 9: mapping values are not allowed here",
    ),
    "unfinished": (
        "flags: [",
        "line 1, column 9: expected the node content, but found '<stream end>'",
    ),
    "a tab": (
        "flags:\n\tplugin: {}",
        "line 2, column 1: found character '\\t' that cannot start any token",
    ),
    "a key given twice": (
        "flags:\n  migStrategy: none\n  migStrategy: single",
        'line 2, column 3: the key "migStrategy" is given twice',
    ),
    "a section given twice": (
        "flags: {}\nimex: {}\nflags: {}",
        'line 1, column 1: the key "flags" is given twice',
    ),
}
FILES = {**UNKNOWN, **MEANT, **VALUES, **SYNTAX}


@pytest.mark.parametrize(("content", "problem"), FILES.values(), ids=FILES)
def test_a_bad_configuration_file(tmp_path: Path, content: str, problem: str) -> None:
    """A bad configuration file is refused with its path, the place and the cause."""
    path = tmp_path / "config.yaml"
    path.write_text(content)
    expected = CONFIGURATION.format(path=path) + problem
    assert message({"service.configFile": str(path)}, {}) == expected
    assert message({}, {"CONFIG_FILE": str(path)}) == expected


def test_a_deeply_nested_configuration_file(tmp_path: Path) -> None:
    """A configuration file that is nested too deeply is refused with one line."""
    path = tmp_path / "config.yaml"
    path.write_text("[" * 1000)
    problem = CONFIGURATION.format(path=path) + "it is nested too deeply"
    assert message({"service.configFile": str(path)}, {}).startswith(problem)


def test_a_configuration_file_that_is_not_utf_8(tmp_path: Path) -> None:
    """A configuration file that is not UTF-8 is refused with one line."""
    path = tmp_path / "config.yaml"
    path.write_bytes(b"version: \xff\n")
    problem = "'utf-8' codec can't decode byte 0xff in position 9: invalid start byte"
    assert (
        message({"service.configFile": str(path)}, {}) == CONFIGURATION.format(path=path) + problem
    )


@pytest.mark.parametrize(
    ("option", "prefix"),
    [("service.configFile", CONFIGURATION), ("service.simulatedNode", NODE)],
    ids=["configuration file", "node file"],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, option: str, prefix: str) -> None:
    """The error for a file that is missing or is a folder has the system's error."""
    for path, problem in (
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        assert message({option: str(path)}, {}) == prefix.format(path=path) + problem


def test_a_key_without_a_value_counts_as_left_out(tmp_path: Path) -> None:
    """A section in which everything is commented out counts as left out."""
    path = tmp_path / "config.yaml"
    path.write_text("health:\n  # staleAfter: 5s\nflags: {failOnInitError: null}\n")

    assert load({"service.configFile": str(path)}, {}).configuration == load({}, {}).configuration


@pytest.mark.parametrize(
    ("health", "refused"),
    [
        ("staleAfter: 9s", "9s with health.pollInterval 5s: write a staleAfter of at least two "),
        ("pollInterval: 1m", "10s with health.pollInterval 60s: write a staleAfter of at least "),
        ("staleAfter: 3s, pollInterval: 1600ms", "3s with health.pollInterval 1.6s: write a "),
        ("staleAfter: 3s, pollInterval: 1500ms, hangAfter: 3s", ""),
        ("staleAfter: 2m, pollInterval: 1m", ""),
        ("exitWithoutAccess: 100ms", ""),
    ],
)
def test_devices_are_polled_twice_before_they_are_stale(
    tmp_path: Path, health: str, refused: str
) -> None:
    """A staleAfter under two poll intervals is refused, with both values and what to write."""
    path = tmp_path / "config.yaml"
    path.write_text(f"health: {{{health}}}")
    flags = {"service.configFile": str(path)}
    if refused:
        begin = CONFIGURATION.format(path=path) + f"health.staleAfter {refused}"
        assert message(flags, {}).startswith(begin)
    else:
        assert load(flags, {})
