"""`flags.gfd` of NVIDIA's file, and what of it takes effect."""

from pathlib import Path

import pytest

from proto.labels import FEATURE_FILE, LabelSettings
from supervisor.compose import compose
from supervisor.config import encoded, gfd
from supervisor.config.settings import Settings, load
from tests.unit.refusal import message

ON = {"service.nodeLabels": "file"}


def read(path: Path, text: str, flags: dict[str, str] = ON, **environment: str) -> Settings:
    """Return the settings with a configuration file of this text."""
    path.write_text(text)
    return load({**flags, "service.configFile": str(path)}, environment)


def labelling(settings: Settings) -> LabelSettings:
    """Return the settings of the process that labels the node."""
    (spec,) = (spec for spec in compose(settings).children if spec.name == "labels")
    assert isinstance(spec.settings, LabelSettings)
    return spec.settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60s", 60.0),
        ("1m30s", 90.0),
        ("1.5h", 5400.0),
        ("2000ms", 2.0),
        ("3000000000ns", 3.0),
        ("infinite", 0.0),
        ("168h", 604800.0),
    ],
)
def test_an_interval_is_read_as_go_writes_it(text: str, seconds: float) -> None:
    """A duration of Go, with several units, and `infinite` are understood."""
    assert gfd.interval(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "60", "-1s", "1s ", "s", "0s", "999ms", "169h", "1d", "٣s"])
def test_no_interval(text: str) -> None:
    """Any other text is refused with what to write."""
    with pytest.raises(ValueError, match=r"^write "):
        gfd.interval(text)


def test_what_means_the_same_takes_effect(tmp_path: Path) -> None:
    """The file, the kind of machine, the interval and the timestamp are those of the file."""
    text = (
        "flags: {gfd: {outputFile: /features.d/gfd, machineTypeFile: /machine, sleepInterval: 30s, "
        "noTimestamp: false}}"
    )
    mine = labelling(read(tmp_path / "config.yaml", text))
    assert (mine.file, mine.interval) == ("/features.d/gfd", 30.0)
    assert (mine.machine_type_file, mine.timestamp) == ("/machine", True)


def test_a_number_is_nanoseconds(tmp_path: Path) -> None:
    """As in NVIDIA's file, a number without a unit is nanoseconds."""
    text = "flags: {gfd: {sleepInterval: 90000000000}}"
    assert labelling(read(tmp_path / "config.yaml", text)).interval == pytest.approx(90.0)


def test_nothing_is_set(tmp_path: Path) -> None:
    """Without the section the labels go to our own file each minute, without a timestamp."""
    mine = labelling(read(tmp_path / "config.yaml", "version: v1"))
    assert (mine.file, mine.interval, mine.timestamp) == (FEATURE_FILE, 60.0, False)
    assert mine.machine_type_file == "/sys/class/dmi/id/product_name"


def test_the_environment_counts_more_than_the_file(tmp_path: Path) -> None:
    """The variables of GPU feature discovery override the file; ours are the same settings."""
    text = "flags: {gfd: {outputFile: /a/b, sleepInterval: 30s, machineTypeFile: /machine}}"
    mine = labelling(
        read(
            tmp_path / "config.yaml",
            text,
            GFD_OUTPUT_FILE="/c/d",
            GFD_SLEEP_INTERVAL="infinite",
            GFD_MACHINE_TYPE_FILE="/other",
        )
    )
    assert (mine.file, mine.interval, mine.machine_type_file) == ("/c/d", 0.0, "/other")


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("sleepInterval: often", 'sleepInterval: "often": write a time as 60s or 1m30s, or infin'),
        ("sleepInterval: 60", 'sleepInterval: "60": write at least 1s and at most 168h'),
        ("sleepInterval: true", 'sleepInterval: "True": write a time'),
        ("noTimestamp: 'no'", 'noTimestamp: "no": write true or false'),
        ("outputFile: 5", 'outputFile: "5": write a path'),
        ("outputFile: features", 'outputFile "features": write the whole path of a file'),
        ("outputFile: /a/.b", "node feature discovery ignores a file whose name begins with a dot"),
    ],
)
def test_a_wrong_value_is_refused(tmp_path: Path, section: str, problem: str) -> None:
    """A wrong value is refused with its key; while the node is not labelled it does not matter."""
    path = tmp_path / "config.yaml"
    path.write_text(f"flags: {{gfd: {{{section}}}}}")
    told = message({**ON, "service.configFile": str(path)}, {})
    assert told.startswith(f'cannot use the configuration file "{path}": flags.gfd.')
    assert problem in told
    load({"service.configFile": str(path)}, {})


def test_what_has_no_effect_is_named(tmp_path: Path) -> None:
    """Keys that mean nothing here are named in one notice."""
    (notice,) = read(tmp_path / "config.yaml", "flags: {gfd: {oneshot: true, odd: 1}}").notices
    assert notice.startswith("flags.gfd.odd, flags.gfd.oneshot has no effect here")


def test_what_takes_effect_reaches_the_supervisor(tmp_path: Path) -> None:
    """The keys that take effect are passed on; the others, which may be anything, are not."""
    text = "flags: {gfd: {day: 2001-01-01, sleepInterval: 30s}}"
    settings = read(tmp_path / "config.yaml", text)
    there = encoded.decode(encoded.encode(settings))
    assert there.configuration.flags.gfd == {"sleepInterval": "30s"}
    assert labelling(there) == labelling(settings)


@pytest.mark.parametrize("path", ["features", "/a/.hidden", "/a/", "/", "/a/..", "/a\0b"])
def test_a_file_that_node_feature_discovery_would_not_read(path: str) -> None:
    """A path that cannot be a file of labels is refused."""
    assert message({**ON, "service.nodeLabelsFile": path}, {}).startswith(
        "cannot use --node-labels-file "
    )


@pytest.mark.parametrize("output", ["nodefeature", "node"])
def test_the_api_server_needs_the_name_of_the_node(output: str) -> None:
    """Labels through the API server need the node's name."""
    told = message({"service.nodeLabels": output}, {})
    assert told == f"cannot use --node-labels={output} without --node-name: set --node-name too"
