"""The folders of the MPS daemons, which clients of all users must be able to enter."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from proto.keeper import KeeperSettings
from proto.mps import MpsShare
from supervisor.mps import folders


@pytest.fixture
def short() -> Iterator[Path]:
    """Return an empty folder with a path that is short enough for the daemon's sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_missing_folders_above_the_root_are_open_too(short: Path) -> None:
    """The service creates its own files with private modes, but nobody could enter these."""
    above = short / "run"
    settings = KeeperSettings("GPU-1", MpsShare(2), f"{above}/nvidia/mps", "/state", "bus")
    before = os.umask(0o077)
    try:
        with contextlib.suppress(folders.FolderError):  # the temporary folder is private
            folders.prepare(settings)
    finally:
        os.umask(before)
    made = [above, above / "nvidia", above / "nvidia" / "mps"]
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in made] == [0o755] * 3
