"""Load nvidia-ml-py; the only module that imports pynvml."""

import ctypes
import os
from pathlib import Path
from typing import Any

from proto.safe_paths import require_safe_program

LIBRARY = "libnvidia-ml.so.1"
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

    for folder in LIBRARY_FOLDERS if driver_root.strip("/") else ():
        path = os.path.realpath(os.path.join(driver_root, folder, LIBRARY))  # noqa: PTH118
        if os.path.exists(path):  # noqa: PTH110
            # Its code runs with our rights: nobody else may replace it.
            require_safe_program(Path(path))
            # Without this, the binding loads the library by its bare name.
            pynvml.nvmlLib = ctypes.CDLL(path)
            break
    return pynvml
