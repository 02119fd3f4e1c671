"""A signal that comes while the service replaces itself by the one that waits for a GPU."""

import os
import subprocess
import sys

STORY = """
import os, signal
from supervisor.signals import hold_back

hold_back()
os.kill(os.getpid(), signal.SIGTERM)
os.execv({python!r}, [{python!r}, "-I", "-c", {after!r}])
"""
AFTER = """
import signal

signal.signal(signal.SIGTERM, lambda *_: print("told to stop"))
signal.pthread_sigmask(signal.SIG_SETMASK, ())
"""


def test_a_signal_waits_for_the_new_process() -> None:
    """It reaches the handler of the new process, and neither ends it before nor gets lost."""
    story = STORY.format(python=sys.executable, after=AFTER)
    done = subprocess.run(
        [sys.executable, "-c", story], capture_output=True, text=True, env=os.environ, check=False
    )
    assert (done.returncode, done.stdout) == (0, "told to stop\n"), done.stderr
