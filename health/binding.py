"""Load nvidia-ml-py; the only module that imports pynvml."""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from health.platform_files import DXCORE, LIBRARY, wsl_library
from proto.safe_paths import require_safe_program

LIBRARY_FOLDERS = (
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
)
"""Where distributions install the driver libraries, below the driver root."""


def load(driver_root: str) -> Any:
    """Return nvidia-ml-py with the NVML library below *driver_root*, else the system's library.

    UnsafeError if another user can change the library below *driver_root*.
    """
    import pynvml  # noqa: PLC0415 - only the monitor loads it, after the fork

    for path in _libraries(driver_root):
        if os.path.exists(path):  # noqa: PTH110
            # Its code runs with our rights: nobody else may replace it.
            require_safe_program(Path(path))
            # Without this, the binding loads the library by its bare name.
            pynvml.nvmlLib = ctypes.CDLL(path)
            break
    return pynvml


def _libraries(driver_root: str) -> Iterator[str]:
    """Yield where the library may be; on WSL2 a Linux driver beside it would not work."""
    for root in dict.fromkeys((driver_root, "/")):
        if found := wsl_library(Path(root)):
            _load_dxcore(Path(root))
            yield os.path.realpath(found)
    for folder in LIBRARY_FOLDERS if driver_root.strip("/") else ():
        yield os.path.realpath(os.path.join(driver_root, folder, LIBRARY))  # noqa: PTH118


def _load_dxcore(root: Path) -> None:
    """Load what WSL2's library needs and asks for by its bare name, which finds a loaded one."""
    path = Path(os.path.realpath(root / DXCORE))
    if os.path.exists(path):  # noqa: PTH110
        require_safe_program(path)
        # If it cannot be loaded, NVML says what is wrong.
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
