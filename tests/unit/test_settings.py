"""From flags, environment, file and defaults to the settings."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from simulator.node import default_node
from supervisor.logs import Format, Level
from supervisor.options import OPTIONS
from supervisor.plan import BY_MEMORY, Share
from supervisor.settings import Seconds, Settings, endpoint, load

ALL_LAYERS = """
version: v1
flags:
  failOnInitError: false
  plugin: {containerDriverRoot: /file}
health: {staleAfter: 500ms, hangAfter: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Write a configuration file that sets everything that a file can."""
    path = tmp_path / "config.yaml"
    path.write_text(ALL_LAYERS)
    return str(path)


def plain(settings: Settings) -> dict[str, Any]:
    """Return what the configuration and the service part hold, every field of them."""
    parts = (settings.configuration, settings.service)
    return {
        name: value
        for part in parts
        for name, value in msgspec.to_builtins(part, enc_hook=float).items()
    }


def test_all_defaults() -> None:
    """These are the defaults, all of them; who changes one changes it for every user."""
    settings = load({}, {})
    assert plain(settings) == {
        "version": "v1",
        "flags": {"failOnInitError": True, "plugin": {"containerDriverRoot": "/driver-root"}},
        "health": {"staleAfter": 10.0, "hangAfter": 15.0},
        "configFile": "",
        "resourceConfig": "",
        "devicePluginPath": "/var/lib/kubelet/device-plugins",
        "kubeletSocket": None,
        "runtimeDir": "/run/gpu-sharing-plugin",
        "metricsAddress": ":9450",
        "simulatedNode": "",
        "logFormat": "text",
        "logLevel": "info",
    }
    assert (settings.shares, settings.address, settings.node) == ({}, ("", 9450), None)
    assert settings.service.registration_socket == "/var/lib/kubelet/device-plugins/kubelet.sock"


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
    """A flag wins over the environment, that over the file, and that over the default."""
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
def test_precedence_of_what_is_true_or_false(
    file: str,
    flags: dict[str, str],
    environment: dict[str, str],
    with_file: bool,  # noqa: FBT001 - a column of the table
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """False in a higher layer wins over true in a lower one, and the other way round."""
    named = {"service.configFile": file} if with_file else {}
    assert load(flags | named, environment).configuration.flags.fail_on_init_error is expected


def test_one_layer_leaves_the_rest_of_a_section_to_the_others(file: str) -> None:
    """A flag for one key of a section leaves the file's other keys of it as they are."""
    settings = load({"service.configFile": file, ROOT: "/flag"}, {})
    assert settings.configuration.flags.plugin.container_driver_root == "/flag"
    assert settings.configuration.flags.fail_on_init_error is False
    assert settings.configuration.health.stale_after == 0.5
    assert settings.configuration.health.hang_after == 2.0


def test_the_flag_that_names_a_file_wins_over_the_variable(file: str) -> None:
    """With --config-file the file that CONFIG_FILE names is not even read."""
    settings = load({"service.configFile": file}, {"CONFIG_FILE": "/absent"})
    assert settings.configuration.flags.plugin.container_driver_root == "/file"


SERVICE_VALUES = {
    "service.configFile": "",
    "service.resourceConfig": "gpu:shared:2",
    "service.devicePluginPath": "/plugins",
    "service.kubeletSocket": "/kubelet.sock",
    "service.runtimeDir": "/runtime",
    "service.metricsAddress": "localhost:1",
    "service.simulatedNode": "",
    "service.logFormat": "json",
    "service.logLevel": "debug",
}


def test_every_service_option_arrives_from_its_flag() -> None:
    """Each flag that is no part of the file sets its own setting."""
    assert {o.path for o in OPTIONS} == SERVICE_VALUES.keys() | {ROOT, FAIL}
    expected = {path.removeprefix("service."): value for path, value in SERVICE_VALUES.items()}
    assert expected.items() <= plain(load(SERVICE_VALUES, {})).items()


def test_every_service_option_arrives_from_its_variable() -> None:
    """Each environment variable sets its own setting, and a flag wins over it."""
    environment = {
        o.environment[0]: SERVICE_VALUES[o.path]
        for o in OPTIONS
        if o.path in SERVICE_VALUES and o.environment
    }
    expected = {path.removeprefix("service."): value for path, value in SERVICE_VALUES.items()}
    assert expected.items() <= plain(load({}, environment)).items()
    settings = load({"service.logLevel": "error"}, environment)
    assert (settings.service.log_level, settings.service.log_format) == (Level.ERROR, Format.JSON)


def test_the_simulated_node_comes_from_its_flag_only() -> None:
    """No environment variable can make a real node advertise simulated GPUs."""
    (option,) = [option for option in OPTIONS if option.path == "service.simulatedNode"]
    assert option.environment == ()


def test_a_simulated_node_is_read_with_its_defaults(tmp_path: Path) -> None:
    """A node file may be JSON, and what it leaves out is filled in."""
    path = tmp_path / "node.json"
    path.write_text('{"gpus": [' + ",".join(8 * ["{}"]) + "]}")
    node = load({"service.simulatedNode": str(path)}, {}).node
    assert node is not None
    assert [gpu.uuid for gpu in node.gpus] == [gpu.uuid for gpu in default_node().gpus]


@pytest.mark.parametrize("content", ["", "# all is default\n", "{}", "flags: {}\n"])
def test_a_file_may_say_nothing(tmp_path: Path, content: str) -> None:
    """A file without a setting leaves every default as it is."""
    path = tmp_path / "config.yaml"
    path.write_text(content)
    assert load({"service.configFile": str(path)}, {}).configuration == load({}, {}).configuration


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("gpu:shared:4", {"gpu": Share("shared", 4)}),
        ("gpu:gpu:-1", {"gpu": Share("gpu", BY_MEMORY)}),
        (
            " gpu:a.b-c:1 , mig-1g.10gb:slice:2,",
            {"gpu": Share("a.b-c", 1), "mig-1g.10gb": Share("slice", 2)},
        ),
        (f"gpu:{'n' * 52}:1", {"gpu": Share("n" * 52, 1)}),
        (" , ", {}),
    ],
    ids=["renamed", "by memory", "several", "longest name", "nothing"],
)
def test_resource_config(text: str, shares: dict[str, Share]) -> None:
    """Each ORIGINAL:NEW:REPLICAS shares one resource; blanks and a last comma do not matter."""
    assert load({}, {"NVIDIA_DRIVER_RESOURCE_CONFIG": text}).shares == shares


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":0", ("", 0)),
        ("0.0.0.0:9450", ("0.0.0.0", 9450)),  # noqa: S104
        ("[::1]:65535", ("::1", 65535)),
        ("node.example:80", ("node.example", 80)),
    ],
)
def test_metrics_address(text: str, address: tuple[str, int]) -> None:
    """An address is a host, which may be left out or be IPv6 in brackets, and a port."""
    assert load({"service.metricsAddress": text}, {}).address == address


@pytest.mark.parametrize(
    ("flags", "socket"),
    [
        ({"service.devicePluginPath": "/plugins"}, "/plugins/kubelet.sock"),
        ({"service.devicePluginPath": "/plugins", "service.kubeletSocket": "/k"}, "/k"),
        ({"service.kubeletSocket": ""}, ""),
    ],
    ids=["in the plugin folder", "elsewhere", "none"],
)
def test_registration_socket(flags: dict[str, str], socket: str) -> None:
    """The kubelet's socket is in its plugin folder unless the flag says otherwise; empty: none."""
    assert load(flags, {}).service.registration_socket == socket


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("2.5", 2.5),
        (7, 7.0),
        (0.5, 0.5),
    ],
)
def test_seconds(value: object, seconds: float) -> None:
    """A length of time is a number with a unit, or a number of seconds."""
    assert Seconds.read(value) == pytest.approx(seconds)


def test_an_endpoint_is_named_after_its_resource() -> None:
    """A worker's socket bears its resource's name, without the domain."""
    assert endpoint("nvidia.com/gpu.shared", "/plugins") == "nvidia-gpu.shared.sock"


def test_a_socket_path_of_107_bytes_is_kept_and_a_longer_one_shortened() -> None:
    """An endpoint is shortened exactly where its path would not fit, and still tells resources
    apart.
    """
    fitting = "/" + "d" * (107 - len("//nvidia-gpu.sock"))
    assert endpoint("nvidia.com/gpu", fitting) == "nvidia-gpu.sock"
    short = endpoint("nvidia.com/gpu", fitting + "d")
    assert short == "nvidia-b81425dbf37c.sock"
    assert short != endpoint("nvidia.com/cpu", fitting + "d")


def test_the_limit_of_a_socket_path_counts_bytes() -> None:
    """A folder with letters of more than one byte is as long as its bytes are."""
    folder = "/" + "ü" * 46
    assert len(f"{folder}/nvidia-gpu.sock") < 107
    assert endpoint("nvidia.com/gpu", folder) != "nvidia-gpu.sock"
