"""How nvidia-ctk is called on Tegra and WSL2."""

from pathlib import Path

import msgspec
import pytest

from health import cdi, cdi_lane, cdi_spec
from health.cdi import OnDisk, Task
from health.cdi_lane import CdiWritten
from tests.unit.builders import gpu
from tests.unit.test_cdi import SETTINGS
from tests.unit.test_cdi_lane import Waiting


@pytest.mark.parametrize(
    ("names", "mode", "expected"),
    [
        ("uuid", "nvml", ("nvml", "uuid")),
        ("index", "nvml", ("nvml", "index")),
        ("uuid", "csv", ("csv", "index")),
        ("uuid", "wsl", ("wsl", "uuid")),
    ],
)
def test_how_the_tool_finds_gpus(names: str, mode: str, expected: tuple[str, str]) -> None:
    """On Tegra and WSL2 the tool has a mode of its own for GPUs; on Tegra it knows no UUIDs. Other
    specifications stay as they are.
    """
    given = msgspec.structs.replace(SETTINGS, device_names=names, modes=("gds",))
    gpus, others = cdi_spec.specs(given)
    settings, spec = cdi_spec.in_mode(given, gpus, mode)
    assert (spec.mode, settings.device_names) == expected
    assert (spec.kind, spec.path) == (gpus.kind, gpus.path)
    assert cdi_spec.in_mode(given, others, mode) == (given, others)


def test_the_files_of_a_tegra(tmp_path: Path) -> None:
    """The files that name the libraries of a Tegra are those below the driver root, if any."""
    assert cdi.csv_files(str(tmp_path)) == []
    folder = tmp_path / "etc/nvidia-container-runtime/host-files-for-container.d"
    folder.mkdir(parents=True)
    for name in ("l4t.csv", "drivers.csv", "other.txt"):
        (folder / name).touch()
    assert cdi.csv_files(str(tmp_path)) == [
        f"--csv.file={folder}/drivers.csv",
        f"--csv.file={folder}/l4t.csv",
    ]


def test_another_mode_writes_the_names_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that were written in another mode do not count: they pass other devices."""
    modes: list[str] = []
    names = frozenset({"0"})

    def write(nvml: object, task: Task, **_: object) -> CdiWritten:
        del nvml
        modes.append(task.mode)
        return CdiWritten((), OnDisk((), names))

    monkeypatch.setattr(cdi_lane, "_write", write)
    waiting = Waiting(tmp_path)
    waiting.cdi.open("nvml")
    waiting.finish(0.0)
    waiting.cdi.mode = "csv"
    orin = gpu(0, toolkit_id="0")
    assert not waiting.cdi.settled([orin])
    waiting.cdi.step([orin], 0.0, complete=True)
    waiting.finish(0.0)
    assert waiting.cdi.settled([orin])
    waiting.cdi.step([orin], 0.0, complete=True)
    assert modes == ["nvml", "csv"]
