"""Races of the chaos runner with the service, which may act between any two steps."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.chaos.of_files import put_a_file_in_place_of
from tests.chaos.world import World
from tests.fakes.service import open_files


def test_a_file_replaces_a_folder_that_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner retries until its file is in place of a folder that the service re-creates."""
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
    """A service whose child has no process first, and then one pid after the other."""

    def __init__(self, *pids: int) -> None:
        self._seen = iter(({}, *({"monitor": pid} for pid in pids)))

    def pids(self) -> dict[str, int]:
        """Return the next pids of the children."""
        return next(self._seen)


def test_a_restarting_child_is_signalled_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner waits for a restarting child, and signals the new process."""
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


def test_a_descriptor_closed_meanwhile_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A descriptor that is closed while the runner lists open files is left out."""
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


def test_an_ended_process_has_no_open_files() -> None:
    """A process that no longer exists has no open files, and this is no error."""
    assert open_files(2**22 + 1) == []  # above the kernel's highest pid
