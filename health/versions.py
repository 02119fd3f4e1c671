"""Compare the version of the NVML library in this process with that of the kernel module.

After a driver upgrade, a container keeps the library that it was created with. A new container gets
the library that is now on the host.
"""

import re
from pathlib import Path
from typing import NamedTuple

MODULE = re.compile(r"^NVRM version:.*?\s(\d{1,9}(?:\.\d{1,9})+)(?:\s|$)", re.ASCII | re.MULTILINE)
"""The module's version in /proc/driver/nvidia/version, of the closed and of the open module."""

LIBRARY = re.compile(
    r"/libnvidia-ml\.so\.(\d{1,9}(?:\.\d{1,9})+)(?: \(deleted\))?$", re.ASCII | re.MULTILINE
)
"""The library's version in /proc/PID/maps: the kernel names the file that the link leads to."""


class Versions(NamedTuple):
    """Versions such as 580.95.05; empty: unknown."""

    library: str
    module: str

    @property
    def library_is_older(self) -> bool:
        """Whether the library is older than the module; False if one of them is unknown."""
        return bool(self.library and self.module) and _key(self.library) < _key(self.module)


def read(procfs: Path) -> Versions:
    """Return the versions of the library that this process has loaded, and of the module."""
    # The file in use, not the one that a search finds: only the loader knows all its folders.
    library = LIBRARY.search(_text(procfs / "self/maps"))
    module = MODULE.search(_text(procfs / "driver/nvidia/version"))
    return Versions(library[1] if library else "", module[1] if module else "")


def _key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
