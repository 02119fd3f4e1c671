"""Change a GPU's compute mode, and remember the one that it had: a program that ends at once.

The processes that keep MPS daemons run it: `compute_mode.py take|put-back FOLDER UUID MODULE
ARGUMENT`. So none of them ever holds the driver, and a driver call that hangs delays one GPU only.
The former mode is in a file before the mode is changed, so a crash in between loses nothing.
"""

import enum
import sys
from collections.abc import Sequence
from pathlib import Path

from health.nvml import Code, Nvml, NvmlError
from proto.folder import Folder
from proto.safe_paths import in_words

EXCLUSIVE_PROCESS = 3
"""NVML_COMPUTEMODE_EXCLUSIVE_PROCESS."""

FILE = "compute-mode-"
"""How the name of a file begins that has the former mode of a GPU; its UUID follows."""

UNFINISHED = ".new"
"""How the name of a file ends that `Folder.write` has not finished."""

MODES = (b"0", b"1", b"2", b"3")
"""What is in such a file: nvmlComputeMode_t."""


class Verb(enum.StrEnum):
    """What to do with the compute mode of a GPU."""

    TAKE = "take"
    """Remember it, and set EXCLUSIVE_PROCESS."""
    PUT_BACK = "put-back"
    """Set the remembered one, and forget it."""


UNSUPPORTED = "unsupported"
"""What the program prints if the GPU has no compute mode, as on Tegra."""


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; return 0, or 1 after an error, which is on stdout."""
    verb, folder, uuid, module, argument = arguments
    try:
        nvml = Nvml()
        nvml.load(module, argument)
        nvml.start()
        do = take if Verb(verb) is Verb.TAKE else put_back
        said, code = do(nvml, Path(folder), uuid), 0
    except (NvmlError, OSError) as error:
        said, code = in_words(error), 1
    sys.stdout.write(f"{said}\n")  # for its caller
    return code


def take(nvml: Nvml, folder: Path, uuid: str) -> str:
    """Set EXCLUSIVE_PROCESS, and remember the former mode; return UNSUPPORTED or nothing.

    NvmlError if the driver refuses it, OSError if the former mode cannot be remembered.
    """
    handle = nvml.call("nvmlDeviceGetHandleByUUID", uuid)
    mode = nvml.ask("nvmlDeviceGetComputeMode", handle)
    if mode is None:
        return UNSUPPORTED
    if mode == EXCLUSIVE_PROCESS:
        return ""  # by us before, and then it is remembered, or by somebody else
    with Folder.private(folder) as state:
        if _remembered(state, uuid) is None:
            state.write(FILE + uuid, str(mode).encode())
    return _set(nvml, handle, EXCLUSIVE_PROCESS)


def put_back(nvml: Nvml, folder: Path, uuid: str) -> str:
    """Set the remembered mode, and forget it; do nothing if none is remembered.

    NvmlError if the driver refuses it; then the mode is still remembered.
    """
    with Folder.private(folder) as state:
        mode = _remembered(state, uuid)
        if mode is not None:
            handle = nvml.call("nvmlDeviceGetHandleByUUID", uuid)
            _set(nvml, handle, mode)
            state.remove(FILE + uuid)
    return ""


def remembered(folder: Path) -> tuple[str, ...]:
    """Return the UUIDs of the GPUs whose former modes are remembered; OSError as `Folder`."""
    with Folder.private(folder) as state:
        names = [name for name in state.names() if not name.endswith(UNFINISHED)]
    return tuple(name.removeprefix(FILE) for name in names if name.startswith(FILE))


def _set(nvml: Nvml, handle: object, mode: int) -> str:
    try:
        nvml.call("nvmlDeviceSetComputeMode", handle, mode)
    except NvmlError as error:
        if error.code != Code.NOT_SUPPORTED:
            raise
        return UNSUPPORTED
    return ""


def _remembered(state: Folder, uuid: str) -> int | None:
    try:
        content = state.read(FILE + uuid)
    except FileNotFoundError:
        return None
    # A file that cannot be understood is not ours: DEFAULT is what GPUs have.
    return int(content) if content in MODES else 0
