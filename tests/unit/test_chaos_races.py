"""Between any two steps of the chaos runner the service may have acted."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.chaos.of_files import put_a_file_in_place_of
from tests.chaos.world import World
from tests.fakes.service import open_files


def test_a_folder_that_is_made_anew_gives_way_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that makes its folder again and again delays the file, and does not prevent it."""
    folder, makes, remove = tmp_path / "state", iter((True, True, False)), shutil.rmtree

    def removed(path: Path, *, ignore_errors: bool) -> None:
        remove(path, ignore_errors=ignore_errors)
        if next(makes):
            path.mkdir()

    monkeypatch.setattr(shutil, "rmtree", removed)
    put_a_file_in_place_of(folder)

    assert folder.is_file()
    assert [*tmp_path.iterdir()] == [folder]


class Restarting:
    """A service whose child is away, then about to end, then there for good."""

    def __init__(self, *pids: int) -> None:
        self._seen = iter(({}, *({"monitor": pid} for pid in pids)))

    def pids(self) -> dict[str, int]:
        """Return the next that there is."""
        return next(self._seen)


def test_a_child_that_is_away_is_struck_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that restarts by itself, or ends before the signal, is waited for."""
    struck = []

    def kill(pid: int, number: int) -> None:
        if pid == 1:
            raise ProcessLookupError
        struck.append((pid, number))

    monkeypatch.setattr(os, "kill", kill)
    world = World(tmp_path, seed=1)
    world.running = Restarting(1, 2)  # type: ignore[assignment]
    world.deadline = float("inf")

    assert asyncio.run(world.strike("monitor", signal.SIGTERM)) == 2
    assert struck == [(2, signal.SIGTERM)]


def test_what_is_closed_while_it_is_listed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor that its process closes between the list and the look is no error."""
    read, write = os.pipe()
    gone = Path(f"/proc/{os.getpid()}/fd/{read}")
    look = Path.readlink

    def closing(path: Path) -> Path:
        if path == gone:
            os.close(read)
        return look(path)

    monkeypatch.setattr(Path, "readlink", closing)
    kept = str(look(Path(f"/proc/{os.getpid()}/fd/{write}")))
    found = open_files(os.getpid())
    os.close(write)

    assert found.count(kept) == 1


def test_a_process_that_has_ended_has_nothing_open() -> None:
    """A process that ends before it is looked at is no error."""
    assert open_files(2**22 + 1) == []  # above the kernel's highest pid
