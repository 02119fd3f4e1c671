"""The note of the running NVML call, which the supervisor reads from a file."""

import subprocess
import sys
from pathlib import Path

from health.running_call import SIZE, RunningCall, read


def test_a_running_call_can_be_read(tmp_path: Path) -> None:
    """The note has the running call until it returns; a long text is cut."""
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


def test_a_new_monitor_clears_the_note(tmp_path: Path) -> None:
    """A new monitor clears the note of the monitor that was killed."""
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
"""Runs in its own process, because the limit would also stop pytest's output."""


def on_a_full_disk(path: str) -> str:
    """Return what is read before a call and during a call."""
    command = [sys.executable, "-c", ON_A_FULL_DISK, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def test_a_full_disk_does_not_stop_the_monitor(tmp_path: Path) -> None:
    """On a full disk the note stays empty, and the monitor continues."""
    assert on_a_full_disk(str(tmp_path / "call")) == "['', '']"


def test_an_existing_note_is_used_on_a_full_disk(tmp_path: Path) -> None:
    """On a full disk, a new monitor uses the file of the monitor before."""
    path = str(tmp_path / "call")
    RunningCall(path).enter("nvmlInit")
    assert on_a_full_disk(path) == "['', 'nvmlShutdown']"


def test_a_missing_folder_is_no_error(tmp_path: Path) -> None:
    """Without the runtime folder the note is empty, without an error."""
    trace = RunningCall(str(tmp_path / "gone" / "call"))
    trace.enter("nvmlInit")
    assert read(str(tmp_path / "gone" / "call")) == ""
