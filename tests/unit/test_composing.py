"""Composing a service: it works or is refused in one line, and it changes nothing on the disk."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.live_node import LIVE_FILE, LiveNode
from simulator.node import NodeError
from supervisor import compose
from supervisor.config.choose_file import Wish
from supervisor.config.options import OPTIONS
from supervisor.config.refusal import SettingsError
from supervisor.main import main
from supervisor.source import source

LONG = "d" * 300
NODE = "gpus: [{}, {}]\n"


def refused(flags: dict[str, str], environment: dict[str, str] | None = None) -> str:
    """Return the line with which these settings are refused."""
    with pytest.raises(SettingsError) as error:
        compose.load_service(flags, environment or {})
    (line,) = str(error.value).splitlines()
    assert line.startswith("cannot use ")
    return line


PATHS = {
    "a name of 300 bytes": (f"/{LONG}/x", "write at most 255 bytes between two slashes"),
    "a path of 5000 bytes": ("/d" * 2500, "write at most 4095 bytes"),
    "a NUL": ("/a\0b", "a path cannot have a NUL character"),
}


@pytest.mark.parametrize(("path", "problem"), PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("flags.plugin.containerDriverRoot", "flags.plugin.containerDriverRoot"),
        ("flags.nvidiaDriverRoot", "flags.nvidiaDriverRoot"),
        ("flags.plugin.nvidiaCTKPath", "flags.plugin.nvidiaCTKPath"),
        ("service.stateDir", "--state-dir"),
        ("service.cdiSpecDir", "--cdi-spec-dir"),
        ("service.metricsTokenFile", "--metrics-token-file"),
    ],
)
def test_a_path_that_no_file_can_have_is_refused(
    setting: str, shown: str, path: str, problem: str
) -> None:
    """A path that no file can have is refused, with its setting and the limit."""
    line = refused({setting: path})
    flag = next(option.flags[0] for option in OPTIONS if option.path == setting)
    assert line.startswith((f'cannot use {shown} "/', f'cannot use {flag}="/'))
    assert line.endswith(problem)


def test_composing_looks_at_no_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor composes the service at each reload, and a mount of the host may be dead."""

    def hangs(*_: object, **__: object) -> None:
        raise AssertionError("a look at a mount that is dead never ends")

    for name in ("stat", "lstat", "open", "listdir", "scandir", "access", "readlink"):
        monkeypatch.setattr(f"os.{name}", hangs)
    assert compose.load_service({"flags.plugin.containerDriverRoot": "/driver"}, {})


def test_an_error_that_nobody_foresaw_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised while composing becomes a refusal of one line."""

    def broken(_: object) -> None:
        raise RecursionError("too\ndeep")

    monkeypatch.setattr(compose, "_compose", broken)
    assert refused({}) == "cannot use these settings: RecursionError: too deep"


def test_composing_writes_nothing(tmp_path: Path) -> None:
    """The simulated node is written when the service is prepared, not when it is composed."""
    path, folder = tmp_path / "node.yaml", tmp_path / "run"
    path.write_text(NODE)
    folder.mkdir()
    flags = {"service.simulatedNode": str(path), "service.runtimeDir": str(folder)}
    service = compose.load_service(flags, {})
    assert not list(folder.iterdir())
    service.prepare()
    assert len(LiveNode(folder).read().gpus) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff"])
def test_a_damaged_live_node_is_told_when_the_service_is_prepared(
    tmp_path: Path, content: bytes
) -> None:
    """Preparing fails with a NodeError if the file of the simulated node is damaged."""
    path = tmp_path / "node.yaml"
    path.write_text(NODE)
    (tmp_path / LIVE_FILE).write_bytes(content)
    flags = {"service.simulatedNode": str(path), "service.runtimeDir": str(tmp_path)}
    with pytest.raises(NodeError, match="cannot read the simulated node"):
        compose.load_service(flags, {}).prepare()


def test_a_live_node_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Preparing fails with a NodeError if the folder of the simulated node cannot be written."""
    path = tmp_path / "node.yaml"
    path.write_text(NODE)
    flags = {"service.simulatedNode": str(path), "service.runtimeDir": str(tmp_path / "none")}
    with pytest.raises(NodeError, match=r"cannot write the simulated node.*No such file"):
        compose.load_service(flags, {}).prepare()


def test_check_config_refuses_what_the_start_would_refuse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check-config` composes the service too: a missing library is told before the start."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["check-config", "--node-events", "--node-name=a"]) == 2
    assert "install gpu-sharing-plugin[cluster]" in capsys.readouterr().err


texts = st.sampled_from(["", "gpu", "all", "-1", "0", "1e999", "a\0b", "\ud800", f"/{LONG}", "٣"])
scalars = st.none() | st.booleans() | st.integers(-3, 70_000) | st.floats() | texts | st.text()
KEYS = """
    version flags plugin migStrategy containerDriverRoot nvidiaDriverRoot deviceListStrategy gfd
    sharing timeSlicing mps resources name replicas rename devices gpus mig pattern imex channelIDs
    health staleAfter hangAfter pollInterval xids 79 recovery usage interval
"""
names = st.sampled_from(KEYS.split())
files = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | texts, inner, max_size=4),
    max_leaves=20,
)
options = st.dictionaries(
    st.sampled_from([option.path for option in OPTIONS]), texts | st.text(max_size=9), max_size=3
)


@settings(deadline=None, max_examples=100)
@given(files, options)
def test_any_settings_are_composed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: Any, flags: dict[str, str]
) -> None:
    """Any file and flags give a service, or one line that names the setting at fault."""
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(content))
    try:
        read = source({"service.configFile": str(path)} | flags, {}, compose.compose)
        read.compose(read.read(Wish()))
    except SettingsError as error:
        text = str(error)
        assert text.startswith("cannot ")
        assert text.isprintable()
        # These begin the refusal of what nobody foresaw; it does not name the setting.
        assert not text.startswith(("cannot use the settings:", "cannot use these settings:"))
    assert [found.name for found in folder.iterdir()] == ["config.json"]
