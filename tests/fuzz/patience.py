"""Wait for a process that may hang, on a machine that may be busy with others."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

LAST_WORDS = 5.0
"""Seconds for a process that hangs to say where."""


def ended(process: "subprocess.Popen[bytes]", seconds: float, patience: float) -> bool:
    """Wait until *process* has ended; return False if it had to be killed because it hangs.

    It may take *seconds*, and longer while it lacks processor time: it runs with the lowest
    priority, and its start alone takes seconds of that. It hangs if it has used none at all for
    *patience* seconds, or that much beyond its *seconds*. It then says on SIGQUIT where it is.
    """
    used, wait = 0.0, seconds + patience
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
            return True
        before, used, wait = used, cpu(process.pid), patience
        if used == before or used > seconds + patience:
            break
    process.send_signal(signal.SIGQUIT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(LAST_WORDS)
    process.kill()
    process.wait()
    return False


def cpu(pid: int) -> float:
    """Return the seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
