"""Lock the folders of the MPS daemons: a second tree would end or take over the first one's."""

import contextlib
import fcntl
import os
from pathlib import Path

from proto.folder import Folder
from simulator.node import NodeError
from supervisor.config.settings import Settings
from supervisor.mps.folders import made_root

LOCK = "lock"

_HELD: dict[tuple[int, int], int] = {}
"""The descriptors of the locks of this process, by device and inode; they end with the process."""

_KNOWN: set[Path] = set()
"""The folders that are locked: a reload does not touch them again, as their disk may hang."""


def hold(settings: Settings) -> None:
    """Lock the root and the state folder of the daemons until the end of this process.

    NodeError if another tree has locked one of them. A folder that cannot be used is not locked:
    each keeper says what is wrong with it.
    """
    root, state = Path(settings.configuration.flags.mps_root), Path(settings.service.state_dir)
    # Not Path.exists, which raises OSError in a folder that may not be read.
    there = settings.configuration.sharing.mps or os.path.exists(root)  # noqa: PTH110
    if root not in _KNOWN and there:
        with contextlib.suppress(OSError), made_root(root) as folder:
            _lock(folder, "--mps-root", "keeps its daemons")
    if state not in _KNOWN:
        with contextlib.suppress(OSError), Folder.private(state) as folder:
            _lock(folder, "--state-dir", "remembers compute modes")


def _lock(folder: Folder, option: str, use: str) -> None:
    with folder.own(LOCK) as file:
        found = os.fstat(file.fileno())
        key = (found.st_dev, found.st_ino)
        if key in _HELD:  # by another path
            _KNOWN.add(folder.path)
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NodeError(
                f'cannot use {option} "{folder.path}": another `gpu-sharing-plugin mps` {use} '
                "there; stop that service or pod first, or use another folder"
            ) from None
        # A number and no file: it must not be closed with an object that a forked child drops.
        _HELD[key] = os.dup(file.fileno())
        _KNOWN.add(folder.path)
