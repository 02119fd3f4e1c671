"""Find what an earlier tree of MPS daemons left behind, because it could not end in order."""

import re
from collections.abc import Iterator
from pathlib import Path

from health import compute_mode
from proto.mps import pipe_folder
from supervisor.mps import daemon

DEVICE = re.compile(r"(GPU|MIG)-.+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
"""The UUID of a device; that of an integrated GPU has nothing before the digits."""


def find(root: str, state_folder: str) -> tuple[str, ...]:
    """Return the UUIDs of devices that have a daemon, or a compute mode that is not their own.

    OSError if a folder cannot be read.
    """
    modes = compute_mode.remembered(Path(state_folder)) if Path(state_folder).exists() else ()
    return tuple(sorted({*modes, *_with_daemon(root)}))


def _with_daemon(root: str) -> Iterator[str]:
    """Yield the UUIDs of the daemons that run: every client can remove a daemon's PID file."""
    for pipe in daemon.pipes():
        uuid = Path(pipe).parent.name
        if DEVICE.fullmatch(uuid) and daemon.same_folder(pipe, pipe_folder(root, uuid)):
            yield uuid
