"""Look for the files that show what kind of node this is, and for WSL2's libraries."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from health.platform import Signs
from proto.monitor import Discovery, MonitorSettings

DXCORE = "usr/lib/wsl/lib/libdxcore.so"
RELEASE = "etc/nv_tegra_release"
FAMILY = "devices/soc0/family"

LIBRARY = "libnvidia-ml.so.1"
STORES = "usr/lib/wsl/drivers"
"""The folders of the Windows drivers; that of an NVIDIA driver contains libcuda.so.1.1."""


def find(settings: MonitorSettings) -> Signs:
    """Look below the driver root, and where the service itself is.

    With the strategy nvml, files of a Tegra do not count. WSL2 does: it has no other way to pass
    GPUs to containers.
    """
    dxcore, tegra = signs(roots_of(settings), Path(settings.sysfs))
    return Signs(dxcore, "" if settings.discovery is Discovery.NVML else tegra)


def signs(roots: Iterable[Path], sysfs: Path) -> tuple[str, str]:
    """Return the file that shows WSL2, and the one that shows a Tegra; empty: there is none."""
    roots = tuple(roots)
    return first(root / DXCORE for root in roots), _tegra(roots, sysfs)


def roots_of(settings: MonitorSettings) -> tuple[Path, ...]:
    """Return the folders in which the node's files may be; of a simulated node, only its own."""
    root = Path(settings.driver_root)
    here = () if settings.binding != "health.binding" or root == Path("/") else (Path("/"),)
    return (root, *here)


def first(paths: Iterable[Path]) -> str:
    """Return the first path that exists; empty: none does."""
    # Not Path.exists, which raises OSError in a folder that may not be read.
    return next((str(path) for path in paths if os.path.exists(path)), "")  # noqa: PTH110


def wsl_library(root: Path) -> str:
    """Return the path of WSL2's NVML library below *root*; empty: there is none."""
    # Not Path.glob, for the same reason as in `first`.
    stores = sorted(glob.glob(f"{STORES}/*/libcuda.so.1.1", root_dir=root))  # noqa: PTH207
    folders = (root / "usr/lib/wsl/lib", *((root / path).parent for path in stores))
    return first(folder / LIBRARY for folder in folders)


def _tegra(roots: Iterable[Path], sysfs: Path) -> str:
    for root in roots:
        if os.path.isfile(root / RELEASE):  # noqa: PTH113
            return str(root / RELEASE)
    try:
        family = (sysfs / FAMILY).read_text(errors="replace").strip()
    except OSError:
        return ""
    return f"{sysfs / FAMILY}: {family}" if family.lower().startswith("tegra") else ""
