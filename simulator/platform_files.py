"""The files that show what kind of node the simulated one is."""

from pathlib import Path

from simulator.node import SimulatedPlatform

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 0, BOARD: generic, EABI: aarch64\n"
FILES = {
    SimulatedPlatform.NVML: {},
    SimulatedPlatform.WSL: {"usr/lib/wsl/lib/libdxcore.so": "", "dev/dxg": ""},
    SimulatedPlatform.TEGRA: {"etc/nv_tegra_release": RELEASE},
}
"""Their contents, by their paths below the root of the host."""

FAMILY = "devices/soc0/family"
"""What the kernel says of a system on chip, below its sysfs."""


def show(platform: SimulatedPlatform, root: Path, sysfs: Path) -> None:
    """Write the files of *platform*, and remove those of others."""
    for path in {path for files in FILES.values() for path in files}:
        (root / path).unlink(missing_ok=True)
    (sysfs / FAMILY).unlink(missing_ok=True)
    for path, content in FILES[platform].items():
        _write(root / path, content)
    if platform is SimulatedPlatform.TEGRA:
        _write(sysfs / FAMILY, "Tegra\n")


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
