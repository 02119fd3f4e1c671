"""Find what an earlier tree of MPS daemons left behind, because it could not end in order."""

import re
from pathlib import Path

from health import compute_mode
from proto.mps import pipe_folder

DEVICE = re.compile(r"(GPU|MIG)-.+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
"""The UUID of a device; that of an integrated GPU has nothing before the digits."""

PID_FILE = "nvidia-cuda-mps-control.pid"
"""What a daemon leaves in its pipe folder, unless it was told to quit."""


def find(root: str, state_folder: str) -> tuple[str, ...]:
    """Return the UUIDs of devices that may have a daemon, or a compute mode that is not their own.

    OSError if a folder cannot be read.
    """
    modes = compute_mode.remembered(Path(state_folder)) if Path(state_folder).exists() else ()
    return tuple(sorted({*modes, *_with_daemon(Path(root))}))


def _with_daemon(root: Path) -> list[str]:
    names = [path.name for path in root.iterdir()] if root.exists() else []
    devices = [name for name in names if DEVICE.fullmatch(name)]
    return [uuid for uuid in devices if Path(pipe_folder(str(root), uuid), PID_FILE).exists()]
