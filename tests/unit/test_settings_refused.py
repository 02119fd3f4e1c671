"""Errors for bad flags, variables and node files: one line with the name and the cause."""

import re
from pathlib import Path

import pytest

from supervisor.config.option import Option
from supervisor.config.options import OPTIONS
from supervisor.config.settings import load
from tests.unit.refusal import message

NODE = 'cannot use the node file "{path}": '

KNOWN = "uuid, name, memoryMiB, pciBusId, numaNode, computeCapability, mig, events, recoveryAction"
KNOWN += ", migCapable, outputs, fabric, vgpu, lacks"
ZERO = "GPU-00000000-0000-0000-0000-000000000000"
NODES = {
    "no gpus": ("{}", "Object missing required field `gpus`"),
    "unknown key": (
        "gpus: [{}, {fan: 1}]",
        f'gpus[1]: unknown key "fan"; allowed keys: {KNOWN}',
    ),
    "uuid": (
        "gpus: [{}, {uuid: GPU-1}]",
        (
            f'gpus[1]: uuid "GPU-1" must look like {ZERO}, or like that without GPU-, as of an '
            "integrated GPU"
        ),
    ),
    "pciBusId": (
        'gpus: [{pciBusId: "07:00"}]',
        'gpus[0]: pciBusId "07:00" must look like 0000:07:00.0',
    ),
    "memoryMiB": ("gpus: [{memoryMiB: 0}]", "gpus[0]: memoryMiB 0 must be at least 1"),
    "computeCapability": (
        'gpus: [{computeCapability: "9"}]',
        'gpus[0]: computeCapability "9" must look like 9.0',
    ),
    "mig": ("gpus: [{mig: [1g.10gb, big]}]", 'gpus[0]: mig "big" must look like 1g.10gb'),
    "the same uuid": (f"gpus: [{{}}, {{uuid: {ZERO}}}]", f'two GPUs have the same uuid "{ZERO}"'),
    "the same pciBusId": (
        'gpus: [{}, {pciBusId: "0000:01:00.0"}]',
        'two GPUs have the same pciBusId "0000:01:00.0"',
    ),
    "a link to nowhere": (
        "gpus: [{}, {}]\nlinks: [{between: [0, 2]}]",
        "links: between [0, 2] must name two different GPUs by index, from 0",
    ),
    "a link from before the first": (
        "gpus: [{}, {}]\nlinks: [{between: [-1, 0]}]",
        "links: between [-1, 0] must name two different GPUs by index, from 0",
    ),
    "a link to itself": (
        "gpus: [{}, {}]\nlinks: [{between: [1, 1]}]",
        "links: between [1, 1] must name two different GPUs by index, from 0",
    ),
    "an unknown path": (
        "gpus: [{}, {}]\nlinks: [{between: [0, 1], path: NEAR}]",
        "links[0].path: Invalid enum value 'NEAR'; allowed: SAME, PIX, PXB, PHB, NODE, SYS",
    ),
}


@pytest.mark.parametrize(("content", "problem"), NODES.values(), ids=NODES)
def test_a_bad_node_file(tmp_path: Path, content: str, problem: str) -> None:
    """A bad node file is refused with its path, the place and the cause."""
    path = tmp_path / "node.yaml"
    path.write_text(content)
    assert message({"service.simulatedNode": str(path)}, {}) == NODE.format(path=path) + problem


ADDRESS = "write HOST:PORT, or :PORT"
BOOLEANS = {o.path: "write true or false" for o in OPTIONS if o.switch}
REFUSED = {
    **{path: ("yes", problem) for path, problem in BOOLEANS.items()},
    "service.configFallbackStrategies": ("named,any", "write named or single or empty"),
    "service.nodeLabels": ("on", "write off or file or nodefeature or node"),
    "service.nodeLabelsInterval": ("60", "write a time as 60s or 1m30s, or infinite"),
    "service.logFormat": ("xml", "write text or json"),
    "service.logLevel": ("INFO", "write debug or info or warning or error"),
    "flags.migStrategy": ("Single", "write none or single or mixed"),
    "flags.deviceDiscoveryStrategy": ("vfio", "write auto or nvml or tegra"),
    "flags.plugin.deviceListStrategy": (
        "envvar,mounts",
        "write envvar or volume-mounts or cdi-annotations or cdi-cri",
    ),
    "flags.plugin.deviceIDStrategy": ("name", "write uuid or index"),
    "flags.plugin.sharedDevicesAllocationPolicy": (
        "best",
        "write distributed or packed or spread",
    ),
    "imex.channelIDs": ("0,first", "write a number"),
    "service.metricsAllowedHosts": (
        "gpus.example:80",
        "write names without a port, such as gpus.example.com or *.example.com",
    ),
}


@pytest.mark.parametrize(
    "option",
    [o for o in OPTIONS if o.parse is not str and "cdi" not in o.path],
    ids=lambda o: o.path,
)
def test_a_value_that_is_not_allowed(option: Option) -> None:
    """The error for a bad value names its flag or variable, and the allowed values."""
    value, problem = REFUSED[option.path]
    flag = option.flags[0]
    assert message({option.path: value}, {}) == f'cannot use {flag}="{value}": {problem}'
    for name in option.environment:
        assert message({}, {name: value}) == f'cannot use {name}="{value}": {problem}'


@pytest.mark.parametrize(
    ("written", "shown"),
    [("2048", "[2048]"), ("0,0", "[0, 0]"), ("0,1,0", "[0, 1, 0]")],
)
def test_imex_channels_that_cannot_be(tmp_path: Path, written: str, shown: str) -> None:
    """IMEX channels that the driver does not have are refused, from file, flag or variable."""
    path = tmp_path / "config.yaml"
    path.write_text(f"imex: {{channelIDs: [{written}]}}")
    problem = f"imex.channelIDs {shown}: write numbers from 0 to 2047, each once"
    expected = f"cannot use {problem}"
    in_file = f'cannot use the configuration file "{path}": {problem}'
    assert message({"service.configFile": str(path)}, {}) == in_file
    assert message({"imex.channelIDs": written}, {}) == expected
    assert message({}, {"IMEX_CHANNEL_IDS": written}) == expected


@pytest.mark.parametrize("written", ["", ",", " , "])
def test_a_list_strategy_without_any(tmp_path: Path, written: str) -> None:
    """An empty deviceListStrategy is refused: no container would get a device."""
    path = tmp_path / "config.yaml"
    path.write_text("flags: {plugin: {deviceListStrategy: []}}")
    problem = (
        "flags.plugin.deviceListStrategy without a value: no container would get a "
        "device; write at least one of envvar, volume-mounts, cdi-annotations, cdi-cri"
    )
    expected = f"cannot use {problem}"
    in_file = f'cannot use the configuration file "{path}": {problem}'
    assert message({"service.configFile": str(path)}, {}) == in_file
    assert message({"flags.plugin.deviceListStrategy": written}, {}) == expected


@pytest.mark.parametrize("written", ["", "0"])
def test_imex_channels_that_are_allowed(tmp_path: Path, written: str) -> None:
    """No IMEX channel, or channel 0, is allowed."""
    path = tmp_path / "config.yaml"
    path.write_text(f"imex: {{channelIDs: [{written}]}}")
    configuration = load({"service.configFile": str(path)}, {}).configuration
    assert configuration.imex.channel_ids == tuple(map(int, written))


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "gpu",
        "/gpu",
        "example.com/",
        "a/b/c",
        "example.com/gpu!",
        "1.com/gpu",
        "example.com/9",
        "a b/gpu",
    ],
)
def test_a_bad_cdi_kind(kind: str) -> None:
    """A CDI kind that is not VENDOR/CLASS is refused."""
    expected = f'cannot use --cdi-kind "{kind}": write VENDOR/CLASS'
    assert message({"service.cdiKind": kind}, {}) == expected


@pytest.mark.parametrize("value", ["", "9450", "localhost", "localhost:", ":http", ":-1", ":65536"])
def test_a_bad_metrics_address(value: str) -> None:
    """A metrics address without a port, or with an invalid port, is refused."""
    expected = f'cannot use --metrics-address "{value}": {ADDRESS}'
    assert message({"service.metricsAddress": value}, {}) == expected


PATHS = [
    ("service.devicePluginPath", "--device-plugin-path", "/nvidia-0123456789ab.sock"),
    ("service.runtimeDir", "--runtime-dir", "/telemetry.ipc"),
    ("service.kubeletSocket", "--kubelet-socket", ""),
]


@pytest.mark.parametrize(("path", "flag", "socket"), PATHS, ids=[flag for _, flag, _ in PATHS])
def test_a_path_that_is_too_long_for_a_socket(path: str, flag: str, socket: str) -> None:
    """A folder is refused only when the path of its socket has more than 107 bytes."""
    longest = "/" + "d" * (106 - len(socket))
    flags = {"service.kubeletSocket": ""}
    assert load(flags | {path: longest}, {}).address == ("", 9450)
    text = message(flags | {path: f"{longest}d"}, {})
    long = f'the path of the socket "{longest}d{socket}" has more than 107 bytes'
    assert text == f"cannot use {flag}: {long}; use a shorter folder"


def test_the_length_of_a_path_is_counted_in_bytes() -> None:
    """The limit of a path counts bytes, not letters."""
    assert re.search(
        "more than 107 bytes; use a shorter folder$",
        message({"service.runtimeDir": "/" + "ü" * 60}, {}),
    )


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
def test_a_malformed_variable_is_refused_with_one_line(environment: dict[str, str]) -> None:
    """A variable with a line break, a huge number or an empty part is refused with one line."""
    assert message({}, environment)


def test_a_line_break_at_the_end_of_a_variable_is_ignored() -> None:
    """A line break at the end of a variable is ignored: Secrets often have one."""
    assert load({}, {"LOG_LEVEL": "debug\n"}).service.log_level == "debug"
