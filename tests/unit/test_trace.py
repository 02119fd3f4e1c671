"""The call of the driver's that is running, as another process reads it."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from health.trace import SIZE, Trace, read


def test_a_call_is_told_while_it_runs(tmp_path: Path) -> None:
    """Another process reads what was entered, until it is left; a long one is cut."""
    path = str(tmp_path / "call")
    trace = Trace(path)
    assert read(path) == ""
    trace.enter("nvmlInit")
    assert read(path) == "nvmlInit"
    trace.enter("nvmlDeviceGetName GPU-1")
    assert read(path) == "nvmlDeviceGetName GPU-1"
    trace.leave()
    assert read(path) == ""
    trace.enter("x" * 1000)
    assert read(path) == "x" * SIZE


def test_a_successor_begins_anew(tmp_path: Path) -> None:
    """What the monitor before was in when it was killed is not taken for its successor's."""
    path = str(tmp_path / "call")
    Trace(path).enter("nvmlInit")
    trace = Trace(path)
    assert read(path) == ""
    trace.enter("nvmlShutdown")
    assert read(path) == "nvmlShutdown"


@pytest.fixture
def _full_disk() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_takes_no_gpu(tmp_path: Path) -> None:
    """Where the note cannot be kept there is none, and the monitor goes on all the same."""
    path = str(tmp_path / "call")
    trace = Trace(path)
    trace.enter("nvmlInit")
    trace.leave()
    assert read(path) == ""


def test_a_note_that_is_there_is_used_on_a_full_disk(tmp_path: Path) -> None:
    """A successor on a disk that is full by now uses the file of the monitor before."""
    path = str(tmp_path / "call")
    Trace(path).enter("nvmlInit")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        trace = Trace(path)
        assert read(path) == ""
        trace.enter("nvmlShutdown")
        assert read(path) == "nvmlShutdown"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """Without the runtime folder there is no note either, and no error."""
    trace = Trace(str(tmp_path / "gone" / "call"))
    trace.enter("nvmlInit")
    assert read(str(tmp_path / "gone" / "call")) == ""
