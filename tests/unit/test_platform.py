"""What kind of node it is, by its files and by what NVML answers."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from health import platform, platform_files
from health.enumeration import Enumerated, SystemRoots, enumerate_gpu
from health.nvml import Code, Nvml
from health.opening import Opened, Refused, open_driver
from health.platform import NOTHING, Signs
from health.platform_files import LIBRARY
from proto.messages import Gpu
from proto.monitor import Discovery, MonitorSettings
from proto.names import nodes_of
from proto.paths import Paths
from proto.platform import PlatformKind
from tests.unit.builders import gpu

DXCORE, TEGRA = "/usr/lib/wsl/lib/libdxcore.so", "/etc/nv_tegra_release"
CARD = gpu(1, name="NVIDIA RTX A6000", pci_bus_id="0005:09:00.0")
ORIN = gpu(0, name="Orin (nvgpu)", pci_bus_id="", minor=None, integrated=True)
AUTO, NVML, FORCED = Discovery.AUTO, Discovery.NVML, Discovery.TEGRA


@pytest.mark.parametrize(
    ("signs", "strategy", "gpus", "expected"),
    [
        (NOTHING, AUTO, (), PlatformKind.NONE),
        (NOTHING, NVML, (), PlatformKind.NONE),
        (NOTHING, FORCED, (), PlatformKind.TEGRA),
        (Signs(nvml=LIBRARY), AUTO, (), PlatformKind.NVML),
        (Signs(nvml=LIBRARY), AUTO, (CARD,), PlatformKind.NVML),
        (Signs(nvml=LIBRARY), AUTO, (ORIN,), PlatformKind.TEGRA),
        (Signs(nvml=LIBRARY), NVML, (ORIN,), PlatformKind.TEGRA),
        (Signs(nvml=LIBRARY), AUTO, (ORIN, CARD), PlatformKind.TEGRA_DISCRETE),
        (Signs(tegra=TEGRA), AUTO, (), PlatformKind.TEGRA),
        (Signs(tegra=TEGRA), AUTO, (ORIN,), PlatformKind.TEGRA),
        (Signs(tegra=TEGRA, nvml=LIBRARY), AUTO, (ORIN,), PlatformKind.TEGRA),
        (Signs(tegra=TEGRA, nvml=LIBRARY), AUTO, (ORIN, CARD), PlatformKind.TEGRA_DISCRETE),
        (Signs(tegra=TEGRA, nvml=LIBRARY), AUTO, (CARD,), PlatformKind.NVML),
        (Signs(tegra=TEGRA, nvml=LIBRARY), FORCED, (CARD,), PlatformKind.NVML),
        (Signs(DXCORE), AUTO, (), PlatformKind.WSL),
        (Signs(DXCORE, nvml=LIBRARY), AUTO, (CARD,), PlatformKind.WSL),
        (Signs(DXCORE, nvml=LIBRARY), NVML, (CARD,), PlatformKind.WSL),
        (Signs(DXCORE, TEGRA, LIBRARY), FORCED, (CARD,), PlatformKind.WSL),
    ],
)
def test_the_platform(
    signs: Signs, strategy: Discovery, gpus: tuple[Gpu, ...], expected: PlatformKind
) -> None:
    """The platform follows from what is on the node; each is told with what shows it."""
    found = platform.decide(signs, strategy, gpus)
    assert found.kind == expected
    assert found.evidence
    assert all(found.evidence)


def test_the_evidence() -> None:
    """The evidence names files, the library, and the GPUs that make the difference."""
    signs = Signs(tegra=TEGRA, nvml=LIBRARY)
    assert platform.decide(signs, AUTO, (ORIN, CARD)).evidence == (
        TEGRA,
        LIBRARY,
        "integrated GPU Orin (nvgpu)",
        "discrete GPU NVIDIA RTX A6000",
    )
    assert platform.decide(signs, AUTO, (CARD,)).evidence == (
        LIBRARY,
        f"{TEGRA}, but no integrated GPU",
    )
    assert platform.decide(NOTHING, FORCED, ()).evidence == (
        "deviceDiscoveryStrategy is tegra",
        "no NVML",
    )


@pytest.mark.parametrize(
    ("signs", "name", "pci", "expected"),
    [
        (NOTHING, "Orin (nvgpu)", "", True),
        (NOTHING, "NVIDIA Thor", "0000:01:00.0", True),
        (Signs(tegra=TEGRA), "GPU of a later one", "", True),
        (Signs(tegra=TEGRA), "NVIDIA RTX A6000", "0005:09:00.0", False),
        (NOTHING, "NVIDIA H100 80GB HBM3", "0000:01:00.0", False),
        (NOTHING, "NVIDIA H100 80GB HBM3", "", False),
    ],
)
def test_an_integrated_gpu(signs: Signs, name: str, pci: str, expected: bool) -> None:  # noqa: FBT001
    """A GPU is integrated by its name, or on a Tegra by having no PCI address."""
    assert platform.is_integrated(signs, name, pci) == expected


@pytest.mark.parametrize(
    ("signs", "gpus", "ids", "nodes", "mode"),
    [
        (Signs(nvml=LIBRARY), (CARD,), [""], [("/dev/nvidia1",)], "nvml"),
        (Signs(nvml=LIBRARY), (ORIN,), ["0"], [()], "csv"),
        (Signs(tegra=TEGRA), (), [], [], "csv"),
        (Signs(nvml=LIBRARY), (ORIN, CARD), ["0", "1"], [(), ("/dev/nvidia1",)], "csv"),
        (Signs(tegra=TEGRA, nvml=LIBRARY), (CARD,), [""], [("/dev/nvidia1",)], "nvml"),
        (Signs(DXCORE, nvml=LIBRARY), (CARD,), ["all"], [("/dev/dxg",)], "wsl"),
    ],
)
def test_how_the_toolkit_knows_gpus(
    signs: Signs,
    gpus: tuple[Gpu, ...],
    ids: list[str],
    nodes: list[tuple[str, ...]],
    mode: str,
) -> None:
    """On Tegra the toolkit knows GPUs by index, on WSL2 as `all`; elsewhere by UUID and index."""
    named = platform.named(signs, gpus)
    assert [known.toolkit_id for known in named] == ids
    assert [nodes_of(known) for known in named] == nodes
    assert platform.toolkit_mode(signs, gpus) == mode


def settings(
    root: Path, strategy: Discovery = AUTO, binding: str = "health.binding"
) -> MonitorSettings:
    """Return the settings of a monitor on a node with this root."""
    paths = Paths(health_bus="", telemetry_bus="", kubelet_socket="", plugin_folder="")
    return MonitorSettings(
        paths,
        binding=binding,
        binding_argument=str(root),
        driver_root=str(root),
        sysfs=str(root / "sys"),
        discovery=strategy,
    )


def write(root: Path, *files: str) -> None:
    """Create *files*, such as `path` or `path: content`."""
    for file in files:
        name, _, content = file.partition(": ")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("files", "strategy", "tegra", "dxcore"),
    [
        ((), AUTO, "", ""),
        (("etc/nv_tegra_release: # R36",), AUTO, "{}/etc/nv_tegra_release", ""),
        (("etc/nv_tegra_release: # R36",), NVML, "", ""),
        (
            ("sys/devices/soc0/family: Tegra\n",),
            AUTO,
            "{}/sys/devices/soc0/family: Tegra",
            "",
        ),
        (("sys/devices/soc0/family: i.MX\n",), AUTO, "", ""),
        (("usr/lib/wsl/lib/libdxcore.so",), AUTO, "", "{}/usr/lib/wsl/lib/libdxcore.so"),
        (("usr/lib/wsl/lib/libdxcore.so",), NVML, "", "{}/usr/lib/wsl/lib/libdxcore.so"),
    ],
)
def test_the_files(
    tmp_path: Path, files: tuple[str, ...], strategy: Discovery, tegra: str, dxcore: str
) -> None:
    """Files below the driver root, and the kernel's word for the chip, show the platform."""
    write(tmp_path, *files)
    expected = Signs(dxcore.format(tmp_path), tegra.format(tmp_path))
    assert platform_files.find(settings(tmp_path, strategy)) == expected


def test_a_file_in_a_folder_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the service may not see counts as not there."""

    def refuse(path: str, **_: object) -> object:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.stat", refuse)
    assert platform_files.find(settings(tmp_path)) == NOTHING
    assert platform_files.wsl_library(tmp_path) == ""


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ((), ""),
        (("lib/libnvidia-ml.so.1", "drivers/a/libcuda.so.1.1"), "lib"),
        (("drivers/b/libnvidia-ml.so.1", "drivers/b/libcuda.so.1.1"), "drivers/b"),
        (("drivers/a/libnvidia-ml.so.1",), ""),
    ],
)
def test_the_library_of_wsl2(tmp_path: Path, files: tuple[str, ...], expected: str) -> None:
    """NVML is in WSL2's folder of libraries, or in the store of NVIDIA's Windows driver."""
    folder = tmp_path / "usr/lib/wsl"
    write(folder, *files)
    path = str(folder / expected / LIBRARY) if expected else ""
    assert platform_files.wsl_library(tmp_path) == path


class Refusing:
    """A binding whose nvmlInit fails with a code."""

    def __init__(self, code: int) -> None:
        self._code = code

    class NVMLError(Exception):
        """The error, with its code."""

        value = 0

    def nvmlInit(self) -> None:  # noqa: N802 - as nvidia-ml-py calls it
        """Fail."""
        error = self.NVMLError("refused")
        error.value = self._code
        raise error


def load(argument: str) -> Refusing:
    """Return the binding of these tests; *argument* ends with the code."""
    return Refusing(int(Path(argument).name))


@pytest.mark.parametrize(
    ("code", "strategy", "tegra", "kind"),
    [
        (Code.LIBRARY_NOT_FOUND, AUTO, True, None),
        (Code.NOT_SUPPORTED, AUTO, True, None),
        (Code.LIBRARY_NOT_FOUND, FORCED, False, None),
        (Code.LIBRARY_NOT_FOUND, AUTO, False, PlatformKind.NONE),
        (Code.LIBRARY_NOT_FOUND, NVML, True, PlatformKind.NONE),
        (Code.DRIVER_NOT_LOADED, AUTO, True, PlatformKind.TEGRA),
        (Code.DRIVER_NOT_LOADED, AUTO, False, PlatformKind.NVML),
        (Code.UNKNOWN, FORCED, False, PlatformKind.TEGRA),
    ],
)
def test_a_tegra_without_nvml(
    tmp_path: Path,
    code: int,
    strategy: Discovery,
    tegra: bool,  # noqa: FBT001 - a table's column
    kind: PlatformKind | None,
) -> None:
    """A Tegra without NVML has one GPU; a driver that answers otherwise is refused, with the
    platform.
    """
    root = tmp_path / str(int(code))
    root.mkdir()
    if tegra:
        write(root, "etc/nv_tegra_release")
    nvml = Nvml()
    opened = open_driver(nvml, settings(root, strategy, __name__))
    if kind is not None:
        assert isinstance(opened, Refused)
        assert (opened.code, opened.platform.kind) == (code, kind)
        return
    assert isinstance(opened, Opened)
    assert (opened.driver_version, opened.count) == ("", 1)
    found = enumerate_gpu(nvml, 0, SystemRoots(procfs=root, signs=opened.signs))
    assert isinstance(found, Enumerated)
    assert replace(found.gpu, unified_memory=False) == Gpu(
        "tegra", 0, None, "", "tegra", None, None, None, events=False, integrated=True
    )
