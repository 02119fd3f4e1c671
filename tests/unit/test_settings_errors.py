"""Settings that cannot be used: one line that says which and why."""

import re
from pathlib import Path

import pytest

from supervisor.settings import SettingsError, load

CONFIGURATION = 'cannot use the configuration file "{path}": '
NODE = 'cannot use the node file "{path}": '
TIME = "as a positive time such as 30s, 5m or 2.5 - at `$.health.staleAfter`"
OBJECT = "Expected `object`, got"


def message(flags: dict[str, str], environment: dict[str, str]) -> str:
    """Return the message of the error that these settings are."""
    with pytest.raises(SettingsError) as error:
        load(flags, environment)
    text = str(error.value)
    assert text.startswith("cannot ")
    assert len(text.splitlines()) == 1
    return text


FILES = {
    "unknown key": ("nonsense: 1", "Object contains unknown field `nonsense`"),
    "unknown key in a section": (
        "flags: {plugin: {nonsense: 1}}",
        "Object contains unknown field `nonsense` - at `$.flags.plugin`",
    ),
    "a setting that is no part of the file": (
        "service: {logLevel: info}",
        "Object contains unknown field `service`",
    ),
    "text for a truth": (
        "flags: {failOnInitError: maybe}",
        "Expected `bool`, got `str` - at `$.flags.failOnInitError`",
    ),
    "a number for a path": (
        "flags: {plugin: {containerDriverRoot: 5}}",
        "Expected `str`, got `int` - at `$.flags.plugin.containerDriverRoot`",
    ),
    "a value for a section": ("flags: {plugin: 5}", f"{OBJECT} `int` - at `$.flags.plugin`"),
    "a list": ("- flags", f"{OBJECT} `array`"),
    "an empty list": ("[]", f"{OBJECT} `array`"),
    "nested without end": ("[" * 3000, "maximum recursion depth exceeded"),
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
    "a time in words": ("health: {staleAfter: soon}", f'write "soon" {TIME}'),
    "no time": ("health: {staleAfter: 0}", f'write "0" {TIME}'),
    "a time before": ("health: {staleAfter: -1s}", f'write "-1s" {TIME}'),
    "a time of two units": ("health: {staleAfter: 1h30m}", f'write "1h30m" {TIME}'),
    "an unknown unit": ("health: {staleAfter: 1d}", f'write "1d" {TIME}'),
    "a truth for a time": ("health: {staleAfter: true}", f'write "True" {TIME}'),
    "a time of two lines": ('health: {staleAfter: "1\\n2"}', f'write "1 2" {TIME}'),
    "another version": ("version: v2", 'version "v2", not "v1"'),
    "a version that is a number": ("version: 1", "Expected `str`, got `int` - at `$.version`"),
}


@pytest.mark.parametrize(("content", "problem"), FILES.values(), ids=FILES)
def test_a_bad_configuration_file(tmp_path: Path, content: str, problem: str) -> None:
    """A configuration file is refused as a whole, with the place and the kind of its error."""
    path = tmp_path / "config.yaml"
    path.write_text(content)
    expected = CONFIGURATION.format(path=path) + problem
    assert message({"service.configFile": str(path)}, {}) == expected
    assert message({}, {"CONFIG_FILE": str(path)}) == expected


def test_a_configuration_file_that_is_not_text(tmp_path: Path) -> None:
    """A file that is not UTF-8 is refused in one line as well."""
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
    """A file that is missing, or is a folder, is named with what the system says of it."""
    for path, problem in (
        (tmp_path / "absent", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        assert message({option: str(path)}, {}) == prefix.format(path=path) + problem


ZERO = "GPU-00000000-0000-0000-0000-000000000000"
NODES = {
    "no gpus": ("{}", "Object missing required field `gpus`"),
    "unknown key": ("gpus: [{}, {fan: 1}]", "Object contains unknown field `fan` - at `$.gpus[1]`"),
    "uuid": ("gpus: [{}, {uuid: GPU-1}]", f'gpus[1]: uuid "GPU-1" is not like {ZERO}'),
    "pciBusId": (
        'gpus: [{pciBusId: "07:00"}]',
        'gpus[0]: pciBusId "07:00" is not like 0000:07:00.0',
    ),
    "memoryMiB": ("gpus: [{memoryMiB: 0}]", "gpus[0]: memoryMiB 0 is not positive"),
    "computeCapability": (
        'gpus: [{computeCapability: "9"}]',
        'gpus[0]: computeCapability "9" is not like 9.0',
    ),
    "mig": ("gpus: [{mig: [1g.10gb, big]}]", 'gpus[0]: mig "big" is not like 1g.10gb'),
    "the same uuid": (f"gpus: [{{}}, {{uuid: {ZERO}}}]", f'two GPUs have the uuid "{ZERO}"'),
    "the same pciBusId": (
        'gpus: [{}, {pciBusId: "0000:01:00.0"}]',
        'two GPUs have the pciBusId "0000:01:00.0"',
    ),
    "a link to nowhere": (
        "gpus: [{}, {}]\nlinks: [{between: [0, 2]}]",
        "links: between [0, 2] does not name two of the gpus",
    ),
    "a link from before the first": (
        "gpus: [{}, {}]\nlinks: [{between: [-1, 0]}]",
        "links: between [-1, 0] does not name two of the gpus",
    ),
    "a link to itself": (
        "gpus: [{}, {}]\nlinks: [{between: [1, 1]}]",
        "links: between [1, 1] does not name two of the gpus",
    ),
    "an unknown path": (
        "gpus: [{}, {}]\nlinks: [{between: [0, 1], path: NEAR}]",
        "Invalid enum value 'NEAR' - at `$.links[0].path`",
    ),
}


@pytest.mark.parametrize(("content", "problem"), NODES.values(), ids=NODES)
def test_a_bad_node_file(tmp_path: Path, content: str, problem: str) -> None:
    """A node file that makes no sense is refused with the place and the kind of its error."""
    path = tmp_path / "node.yaml"
    path.write_text(content)
    assert message({"service.simulatedNode": str(path)}, {}) == NODE.format(path=path) + problem


SYNTAX = "write ORIGINAL:NEW:REPLICAS"
NO_NAME = "is no resource name; write at most 63 lower-case letters, digits, '-' and '.'"
NO_COUNT = "write replicas as 1 or more, or as -1 for one for each 1000 MiB of a device's memory"
LONG = "n" * 53
SHARES = {
    "no name": ("gpu", SYNTAX),
    "no replicas": ("gpu:shared", SYNTAX),
    "too many parts": ("nvidia.com:gpu:shared:2", SYNTAX),
    "upper case": ("gpu:Shared:2", f'"nvidia.com/Shared" {NO_NAME}'),
    "an empty name": ("gpu::2", f'"nvidia.com/" {NO_NAME}'),
    "a dash first": ("gpu:-shared:2", f'"nvidia.com/-shared" {NO_NAME}'),
    "a dot last": ("gpu:shared.:2", f'"nvidia.com/shared." {NO_NAME}'),
    "a domain": ("gpu:nvidia.com/gpu:2", f'"nvidia.com/nvidia.com/gpu" {NO_NAME}'),
    "64 characters": (f"gpu:{LONG}:2", f'"nvidia.com/{LONG}" {NO_NAME}'),
    "no replica": ("gpu:shared:0", NO_COUNT),
    "less than none": ("gpu:shared:-2", NO_COUNT),
    "a fraction": ("gpu:shared:1.5", NO_COUNT),
    "a word": ("gpu:shared:all", NO_COUNT),
    "an empty number": ("gpu:shared:", NO_COUNT),
}


@pytest.mark.parametrize(("entry", "problem"), SHARES.values(), ids=SHARES)
def test_a_bad_resource_config(entry: str, problem: str) -> None:
    """The entry of --resource-config that cannot be used is named, not the others."""
    expected = f'cannot use --resource-config "{entry}": {problem}'
    assert message({"service.resourceConfig": f"gpu:good:1,{entry}"}, {}) == expected


TRUTH = "write true or false"
ADDRESS = "write HOST:PORT, or :PORT"
LEVELS = "write debug or info or warning or error"


@pytest.mark.parametrize(
    ("path", "variable", "value", "expected"),
    [
        ("flags.failOnInitError", "FAIL_ON_INIT_ERROR", "yes", TRUTH),
        ("service.logFormat", "LOG_FORMAT", "xml", "write text or json"),
        ("service.logLevel", "LOG_LEVEL", "INFO", LEVELS),
    ],
)
def test_a_value_that_is_not_allowed(path: str, variable: str, value: str, expected: str) -> None:
    """The message names the flag or the variable that the value came from, and what is allowed."""
    flag = {
        "flags.failOnInitError": "--fail-on-init-error",
        "service.logFormat": "--log-format",
        "service.logLevel": "--log-level",
    }[path]
    assert message({path: value}, {}) == f'cannot use {flag}="{value}": {expected}'
    assert message({}, {variable: value}) == f'cannot use {variable}="{value}": {expected}'


@pytest.mark.parametrize("value", ["", "9450", "localhost", "localhost:", ":http", ":-1", ":65536"])
def test_a_bad_metrics_address(value: str) -> None:
    """An address without a port, or with one that TCP does not have, is refused."""
    expected = f'cannot use --metrics-address "{value}": {ADDRESS}'
    assert message({"service.metricsAddress": value}, {}) == expected


PATHS = [
    ("service.devicePluginPath", "--device-plugin-path", "/nvidia-0123456789ab.sock"),
    ("service.runtimeDir", "--runtime-dir", "/telemetry.ipc"),
    ("service.kubeletSocket", "--kubelet-socket", ""),
]


@pytest.mark.parametrize(("path", "flag", "socket"), PATHS, ids=[flag for _, flag, _ in PATHS])
def test_a_path_that_is_too_long_for_a_socket(path: str, flag: str, socket: str) -> None:
    """A folder is refused when a socket in it has a path over 107 bytes, and only then."""
    longest = "/" + "d" * (106 - len(socket))
    flags = {"service.kubeletSocket": ""}
    assert load(flags | {path: longest}, {}).address == ("", 9450)
    expected = f'cannot use {flag}: the socket "{longest}d{socket}" has over 107 bytes'
    assert message(flags | {path: f"{longest}d"}, {}) == expected


def test_the_length_of_a_path_is_counted_in_bytes() -> None:
    """A path of few letters may have too many bytes."""
    assert re.search("over 107 bytes$", message({"service.runtimeDir": "/" + "ü" * 60}, {}))


@pytest.mark.parametrize(
    "environment",
    [
        {"LOG_LEVEL": "lo\nud"},
        {"METRICS_ADDRESS": "9450\n1"},
        {"CONFIG_FILE": "/a\nb"},
        {"NVIDIA_DRIVER_RESOURCE_CONFIG": "gpu\n:a"},
        {"GPU_SHARING_RUNTIME_DIR": "/r\n" + "r" * 100},
        {"NVIDIA_DRIVER_RESOURCE_CONFIG": "gpu:a:" + "9" * 5000},
        {"METRICS_ADDRESS": ":" + "9" * 5000},
        {"NVIDIA_DRIVER_RESOURCE_CONFIG": ":a:1"},
        {"NVIDIA_DRIVER_RESOURCE_CONFIG": "gpu:a..b:1"},
    ],
    ids=range(9),
)
def test_what_is_odd_is_refused_in_one_line(environment: dict[str, str]) -> None:
    """A value with a line break, without end or with holes is refused in one line."""
    assert message({}, environment)


def test_a_line_break_at_the_end_of_a_variable_is_no_part_of_it() -> None:
    """Secrets and ConfigMaps often end in a line break."""
    assert load({}, {"LOG_LEVEL": "debug\n"}).service.log_level == "debug"


def test_a_key_without_a_value_counts_as_left_out(tmp_path: Path) -> None:
    """A section in which everything is commented out is as if it was not there."""
    path = tmp_path / "config.yaml"
    path.write_text("health:\n  # staleAfter: 5s\nflags: {failOnInitError: null}\n")

    assert load({"service.configFile": str(path)}, {}).configuration == load({}, {}).configuration
