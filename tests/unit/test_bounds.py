"""Every text, number and time of the configuration has a bound, which the error names."""

from pathlib import Path

import pytest

from health.xid_policy import DISABLE, ENABLE
from proto.worker import DeviceListStrategy
from supervisor.compose import compose
from supervisor.config.option import Option
from supervisor.config.options import OPTIONS
from supervisor.config.settings import Settings, load
from tests.unit.refusal import message

SHARED = "sharing: {{timeSlicing: {{resources: [{{name: gpu, replicas: 2, devices: [{}]}}]}}}}"


def written(folder: Path, text: str) -> dict[str, str]:
    """Return the flags for a configuration file with *text*."""
    path = folder / "config.yaml"
    path.write_text(text)
    return {"service.configFile": str(path)}


def read(folder: Path, text: str) -> Settings:
    """Return the settings of a configuration file with *text*."""
    return load(written(folder, text), {})


LONG = {
    "a text anywhere": (f"flags: {{mpsRoot: {'m' * 4096}}}", "the text has 4096 bytes; "),
    "a text of another's section": (f"flags: {{gfd: {{a: {'m' * 4096}}}}}", "the text has 4096"),
    "a text of many bytes": (f"flags: {{mpsRoot: {'ü' * 2048}}}", "the text has 4096 bytes; "),
    "an annotation's prefix": (
        f"flags: {{plugin: {{cdiAnnotationPrefix: {'p' * 255}}}}}",
        "flags.plugin.cdiAnnotationPrefix: the text has 255 bytes; write at most 254 bytes",
    ),
    "a pattern": (
        f"resources: {{gpus: [{{pattern: {'p' * 256}, name: a}}]}}",
        "resources.gpus[0].pattern: the text has 256 bytes; write at most 255 bytes",
    ),
    "an index": (
        SHARED.format("1" * 10),
        'devices: "1111111111" is not the name of a device',
    ),
    "a number": ("health: {recovery: {probes: 9223372036854775808}}", "the number is too large"),
}


@pytest.mark.parametrize(("text", "why"), LONG.values(), ids=LONG)
def test_what_is_too_long_in_a_file_is_refused(tmp_path: Path, text: str, why: str) -> None:
    """A text, an index or a number over its bound is refused, and the error names the bound."""
    line = message(written(tmp_path, text), {})
    assert line.startswith(f'cannot use the configuration file "{tmp_path}/config.yaml": ')
    assert why in line


ALLOWED = {
    "a text": f"flags: {{mpsRoot: {'m' * 4095}}}",
    "an annotation's prefix": f"flags: {{plugin: {{cdiAnnotationPrefix: {'p' * 253}/}}}}",
    "a pattern": f"resources: {{gpus: [{{pattern: {'p' * 255}, name: a}}]}}",
    "a number": "health: {recovery: {probes: 9223372036854775807}}",
    "times": "health: {pollInterval: 100ms, rescanInterval: 0.1, exitWithoutAccess: 100ms}",
    "a period": "health: {recovery: {quietPeriod: 100ms}}",
    "patience": "health: {hangAfter: 3s, staleAfter: 3s, pollInterval: 1s}",
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED)
def test_what_is_at_its_bound_is_accepted(tmp_path: Path, text: str) -> None:
    """A text, a number or a time at its bound is accepted."""
    assert compose(read(tmp_path, text))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.path)
def test_each_option_has_a_bound(option: Option) -> None:
    """A flag or a variable with a text over the bound is refused, whatever it means."""
    text = "x" * (option.most + 1)
    variables = [{name: text} for name in option.environment]
    for line in (message({option.path: text}, {}), *(message({}, given) for given in variables)):
        assert line.endswith(f"it has {len(text)} bytes; write at most {option.most} bytes")
        assert len(line) < 400


@pytest.mark.parametrize("name", [DISABLE, ENABLE])
def test_a_list_of_xids_has_a_bound(name: str) -> None:
    """A variable with thousands of malformed Xids is one error instead of thousands of notices."""
    assert message({}, {name: "x," * 3000}).endswith("it has 6000 bytes; write at most 4095 bytes")


TIMES = ("pollInterval", "rescanInterval", "exitWithoutAccess", "recovery.quietPeriod")


@pytest.mark.parametrize("value", ["99ms", "0.001ms", "0.0999", "0.001s"])
@pytest.mark.parametrize("key", TIMES)
def test_a_time_that_is_too_short_is_refused(tmp_path: Path, key: str, value: str) -> None:
    """A time that would keep a processor busy is refused, and the error says the least."""
    section, _, name = key.rpartition(".")
    inner = f"{{{section}: {{{name}: {value}}}}}" if section else f"{{{name}: {value}}}"
    line = message(written(tmp_path, f"health: {inner}"), {})
    assert line.endswith(f'health.{key}: "{value}" is too short; write at least 100ms')


@pytest.mark.parametrize("key", ["hangAfter", "staleAfter"])
@pytest.mark.parametrize("value", ["1ms", "2999ms"])
def test_a_process_may_be_silent_for_three_seconds(tmp_path: Path, key: str, value: str) -> None:
    """A limit on the silence of a process that reports every second is at least three."""
    line = message(written(tmp_path, f"health: {{{key}: {value}}}"), {})
    assert line.endswith("each process reports only once a second; write at least 3s")


def test_a_strategy_counts_once(tmp_path: Path) -> None:
    """A list of strategies that names one ten thousand times means it once."""
    many = ", ".join(["cdi-cri", "envvar"] * 5000)
    settings = read(tmp_path, f"flags: {{plugin: {{deviceListStrategy: [{many}]}}}}")
    strategies = settings.configuration.flags.plugin.list_strategies
    assert strategies == (DeviceListStrategy.CDI_CRI, DeviceListStrategy.ENVVAR)


def test_a_device_counts_once(tmp_path: Path) -> None:
    """A device that a list names eight thousand times is named once."""
    uuid = "GPU-11111111-1111-1111-1111-111111111111"
    many = ", ".join([f"&a {uuid}", *["*a"] * 8000])
    (share,) = read(tmp_path, SHARED.format(many)).shares["nvidia.com/gpu"]
    assert share.devices == (uuid,)


NODES = {
    "a name": ('{"gpus": [{"name": "' + "x" * 256 + '"}]}', "gpus[0].name: "),
    "memory": ('{"gpus": [{"memoryMiB": 1099511627777}]}', "gpus[0].memoryMiB: "),
    "a NUMA node": ('{"gpus": [{"numaNode": 1024}]}', "gpus[0].numaNode: "),
    "a profile": ('{"gpus": [{"mig": ["1g.1' + "0" * 255 + 'gb"]}]}', "gpus[0]: mig"),
    "a driver": ('{"gpus": [], "driverVersion": "' + "x" * 256 + '"}', "driverVersion: "),
    "devices": ('{"gpus": [' + ",".join(["{}"] * 1001) + "]}", "write at most 1000"),
    "links": (
        '{"gpus": [{}, {}], "links": [{"between": [0, 1], "nvlinks": 1001}]}',
        "links[0].nvlinks: ",
    ),
}


@pytest.mark.parametrize(("text", "why"), NODES.values(), ids=NODES)
def test_a_simulated_node_has_bounds(tmp_path: Path, text: str, why: str) -> None:
    """A simulated node that is larger than any real one is refused."""
    path = tmp_path / "node.json"
    path.write_text(text)
    line = message({"service.simulatedNode": str(path)}, {})
    assert line.startswith(f'cannot use the node file "{path}": ')
    assert why in line
