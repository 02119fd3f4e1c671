"""The call of the driver's that is running, as another process reads it."""

import subprocess
import sys
from pathlib import Path

from health.running_call import SIZE, RunningCall, read


def test_a_call_is_told_while_it_runs(tmp_path: Path) -> None:
    """Another process reads what was entered, until it is left; a long one is cut."""
    path = str(tmp_path / "call")
    trace = RunningCall(path)
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
    RunningCall(path).enter("nvmlInit")
    trace = RunningCall(path)
    assert read(path) == ""
    trace.enter("nvmlShutdown")
    assert read(path) == "nvmlShutdown"


ON_A_FULL_DISK = """
import resource, sys
from health.running_call import RunningCall, read
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
trace = RunningCall(sys.argv[1])
before = read(sys.argv[1])
trace.enter("nvmlShutdown")
print([before, read(sys.argv[1])])
"""
"""In a process of its own, as the limit would hold for pytest's output too."""


def on_a_full_disk(path: str) -> str:
    """Return what is read before and in a call."""
    command = [sys.executable, "-c", ON_A_FULL_DISK, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_a_full_disk_takes_no_gpu(tmp_path: Path) -> None:
    """Where the note cannot be kept there is none, and the monitor goes on all the same."""
    assert on_a_full_disk(str(tmp_path / "call")) == "['', '']"


def test_a_note_that_is_there_is_used_on_a_full_disk(tmp_path: Path) -> None:
    """A successor on a disk that is full by now uses the file of the monitor before."""
    path = str(tmp_path / "call")
    RunningCall(path).enter("nvmlInit")
    assert on_a_full_disk(path) == "['', 'nvmlShutdown']"


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """Without the runtime folder there is no note either, and no error."""
    trace = RunningCall(str(tmp_path / "gone" / "call"))
    trace.enter("nvmlInit")
    assert read(str(tmp_path / "gone" / "call")) == ""
