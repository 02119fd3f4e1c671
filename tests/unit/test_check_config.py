"""`check-config` prints the configuration that `run` would use, and each value's source."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.config.options import OPTIONS
from supervisor.main import main


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the plugin's variables from the environment."""
    for option in OPTIONS:
        for name in option.environment:
            monkeypatch.delenv(name, raising=False)


def printed(
    capsys: pytest.CaptureFixture[str], *arguments: str, notices: str = ""
) -> dict[str, Any]:
    """Return the command's output; on stderr are *notices*, and that the files are accepted."""
    assert main(["check-config", *arguments]) == 0
    out, err = capsys.readouterr()
    answer: dict[str, Any] = json.loads(out)
    files = ", ".join(answer["files"]["checked"])
    assert err == f"{notices}accepted: {files or 'the settings; there is no configuration file'}\n"
    return answer


def test_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """Without settings, the output has every value in the file's structure, as a default."""
    answer = printed(capsys)
    assert list(answer) == ["config", "service", "environment", "files", "sources"]
    sections = ["version", "flags", "resources", "sharing", "imex", "health", "usage"]
    sections.append("unifiedMemory")
    assert list(answer["config"]) == sections
    assert answer["config"]["health"] == {
        "staleAfter": "10s",
        "hangAfter": "15s",
        "pollInterval": "5s",
        "rescanInterval": "30s",
        "exitWithoutAccess": "60s",
        "occupied": "report",
        "dra": "report",
        "fabricAfter": "120s",
        "licence": "report",
        "probe": "",
        "probeInterval": "3600s",
        "probeTimeout": "60s",
        "grey": {
            "after": "60s",
            **dict.fromkeys(("pcie", "slowdown", "clocks", "eccCorrected"), "report"),
            **dict.fromkeys(("spareRows", "persistence", "fabric", "gpuMissing"), "report"),
        },
        "recovery": {"mode": "proof", "quietPeriod": "30s", "probes": 3},
        "xids": {},
    }
    assert answer["config"]["usage"] == {"interval": "5s"}
    assert answer["config"]["flags"]["plugin"]["deviceListStrategy"] == ["envvar"]
    assert set(answer["sources"].values()) == {"default"}


def test_each_layer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output has the value in effect and its source: flag, environment, file or default."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "flags: {migStrategy: mixed, gdsEnabled: true, plugin: {deviceIDStrategy: index}}"
    )
    monkeypatch.setenv("GDS_ENABLED", "false")
    monkeypatch.setenv("DEVICE_ID_STRATEGY", "index")
    answer = printed(capsys, f"--config-file={path}", "--device-id-strategy=uuid")
    flags, sources = answer["config"]["flags"], answer["sources"]
    assert (flags["migStrategy"], sources["flags.migStrategy"]) == ("mixed", "file")
    assert (flags["gdsEnabled"], sources["flags.gdsEnabled"]) == (False, "environment")
    assert flags["plugin"]["deviceIDStrategy"] == "uuid"
    assert sources["flags.plugin.deviceIDStrategy"] == "flag"
    assert sources["flags.mofedEnabled"] == "default"


GFD = "ignored: flags.gfd has no effect while --node-labels is off\n"

CONTENT = """
flags: {plugin: {deviceListStrategy: cdi-cri}, gfd: {oneshot: true}}
resources: {gpus: [{pattern: "*H100*", name: h100}]}
sharing: {timeSlicing: {resources: [{name: gpu, replicas: 2, devices: [0, "0:1"]}]}}
imex: {channelIDs: [0], required: true}
health:
  staleAfter: 4500ms
  hangAfter: 1h
  pollInterval: 2
  exitWithoutAccess: 0
  recovery: {mode: never, quietPeriod: 5m}
"""


def test_what_is_printed_is_a_configuration_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The printed configuration, used as a file, gives the same configuration again."""
    path, again = tmp_path / "config.yaml", tmp_path / "again.json"
    path.write_text(CONTENT)
    first = printed(capsys, f"--config-file={path}", notices=GFD)["config"]
    again.write_text(json.dumps(first))
    assert printed(capsys, f"--config-file={again}", notices=GFD)["config"] == first
    assert first["sharing"]["timeSlicing"]["resources"] == [
        {"name": "gpu", "replicas": 2, "rename": None, "devices": [0, "0:1"]}
    ]
    assert first["health"] == {
        "staleAfter": "4.5s",
        "hangAfter": "3600s",
        "pollInterval": "2s",
        "rescanInterval": "30s",
        "exitWithoutAccess": "0s",
        "occupied": "report",
        "dra": "report",
        "fabricAfter": "120s",
        "licence": "report",
        "probe": "",
        "probeInterval": "3600s",
        "probeTimeout": "60s",
        "grey": {
            "after": "60s",
            **dict.fromkeys(("pcie", "slowdown", "clocks", "eccCorrected"), "report"),
            **dict.fromkeys(("spareRows", "persistence", "fabric", "gpuMissing"), "report"),
        },
        "recovery": {"mode": "never", "quietPeriod": "300s", "probes": 3},
        "xids": {},
    }


def test_ignored_settings_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Ignored settings are named on stderr."""
    path = tmp_path / "config.yaml"
    path.write_text("flags: {gfd: {oneshot: true}}")
    assert main(["check-config", f"--config-file={path}"]) == 0
    assert "flags.gfd" in capsys.readouterr().err


def test_all_files_of_a_folder_are_checked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each file of --config-dir is checked, and each error names its file."""
    (tmp_path / "default").write_text("flags: {migStrategy: mixed}")
    (tmp_path / "good").write_text("")
    shown = printed(capsys, f"--config-dir={tmp_path}")
    assert shown["config"]["flags"]["migStrategy"] == "mixed"
    assert shown["files"] == {
        "inEffect": f"{tmp_path}/default",
        "checked": [f"{tmp_path}/default", f"{tmp_path}/good"],
    }
    (tmp_path / "bad-key").write_text("nonsense: 1")
    (tmp_path / "bad-name").write_text(BAD_NAME)
    (tmp_path / "bad-path").write_text(f"flags: {{nvidiaDriverRoot: /{'d' * 300}}}")
    assert main(["check-config", f"--config-dir={tmp_path}"]) == 2
    out, err = capsys.readouterr()
    assert not out
    begins = [f'cannot use the configuration file "{tmp_path}/bad-{n}": ' for n in ENDS]
    assert [line[: len(begin)] for line, begin in zip(err.splitlines(), begins, strict=True)] == (
        begins
    )


BAD_NAME = "sharing: {timeSlicing: {resources: [{name: GPU, replicas: 2}]}}"
ENDS = ("key", "name", "path")


def test_everything_that_has_effect_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings that the file cannot contain are shown too, with their sources."""
    monkeypatch.setenv("DP_DISABLE_HEALTHCHECKS", "13,31")
    monkeypatch.setenv("CDI_KIND", "example.com/card")
    answer = printed(capsys, "--resource-config=gpu:a:2")
    assert answer["service"]["resourceConfig"] == "gpu:a:2"
    assert answer["sources"]["service.resourceConfig"] == "flag"
    assert answer["service"]["cdiKind"] == "example.com/card"
    assert answer["sources"]["service.cdiKind"] == "environment"
    assert answer["sources"]["service.stateDir"] == "default"
    assert answer["environment"] == {"DP_DISABLE_HEALTHCHECKS": "13,31"}


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_a_configuration_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A dash as the configuration file means standard input."""
    arguments = ["--config-file=-"] if way == "flag" else []
    if way == "variable":
        monkeypatch.setenv("CONFIG_FILE", "-")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"flags: {migStrategy: mixed}")))
    assert printed(capsys, *arguments)["config"]["flags"]["migStrategy"] == "mixed"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"nonsense: 1")))
    assert main(["check-config", *arguments]) == 2
    assert 'cannot use the configuration file "-": unknown key' in capsys.readouterr().err


def test_a_bad_setting_is_a_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    """A bad setting is one line on stderr, and exit code 2."""
    assert main(["check-config", "--mig-strategy=both"]) == 2
    line = 'cannot use --mig-strategy="both": write none or single or mixed\n'
    assert capsys.readouterr() == ("", line)


MPS = """
sharing:
  mps:
    resources: [{name: gpu, replicas: 34}]
  timeSlicing:
    resources: [{name: mig-1g.10gb, replicas: 2}]
"""
LIMITED = """
sharing:
  mps:
    failRequestsGreaterThanOne: false
    renameByDefault: true
    resources:
      - {name: gpu, replicas: 4, memoryLimit: 1500, threads: none, devices: [0]}
      - {name: gpu, replicas: 2, memoryLimit: none}
"""


def test_what_a_replica_of_mps_comes_to(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The output has what each replica of MPS comes to, and what rounding leaves unused."""
    path = tmp_path / "config.yaml"
    path.write_text(MPS)
    assert printed(capsys, f"--config-file={path}")["mps"] == [
        {
            "resource": "nvidia.com/gpu",
            "name": "nvidia.com/gpu",
            "replicas": 34,
            "memory": "1/34 of the device",
            "threads": "2 %",
            "threadsUnused": "32 %",
            "limitedBy": "the daemon",
        }
    ]
    path.write_text(LIMITED)
    first, second = printed(capsys, f"--config-file={path}")["mps"]
    assert (first["memory"], first["threads"], first["threadsUnused"]) == (
        "1500 MiB",
        "no limit",
        "0 %",
    )
    assert (second["memory"], second["threads"]) == ("no limit", "50 %")
    assert second["name"] == "nvidia.com/gpu.shared"
    assert second["limitedBy"] == "the container's variables"


def test_a_printed_configuration_of_mps_is_a_configuration_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The printed configuration of MPS, used as a file, gives the same configuration again."""
    path, again = tmp_path / "config.yaml", tmp_path / "again.json"
    path.write_text(LIMITED)
    first = printed(capsys, f"--config-file={path}")["config"]
    again.write_text(json.dumps(first))
    assert printed(capsys, f"--config-file={again}")["config"] == first
