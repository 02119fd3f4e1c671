"""Find and run nvidia-ctk, the command of NVIDIA's Container Toolkit."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from health.cdi_spec import TOOL, CdiError, reason
from proto import host
from proto.monitor import CdiSettings
from proto.safe_paths import require_safe_program

KILL_LIMIT = 2.0
"""Seconds to wait for a killed nvidia-ctk to end; a hanging driver may delay that."""

MOST_STUCK = 4
"""Runs that may be stuck in the driver at a time; no other is started meanwhile."""

DYING_WITH_US = (sys.executable, "-I", "-S", host.__file__)
"""The command that runs nvidia-ctk so that it ends with this process.

Not preexec_fn: it runs Python code after the fork, which may deadlock in a process with threads.
"""

TAIL = 4096
"""Bytes at the end of the output that are searched for the error."""

REASON_LIMIT = 300

NOTHING_THERE = ("empty device edits", "no devices")
"""How nvidia-ctk says that the node has no devices for a specification."""

UNKNOWN_FLAG = b"flag provided but not defined: -device-id"
"""How nvidia-ctk before 1.19 refuses to write the specification of one GPU alone."""

HOST_ROOT = "/host"
"""Where folders of the host are mounted beside a driver root that is another folder of the host."""

FOLDERS = ("usr/local/nvidia/toolkit", "usr/local/bin", "usr/bin")
"""Where the toolkit is on a host: the first is where NVIDIA's GPU operator installs it."""

NAMES = (f"{TOOL}.real", TOOL)
"""Where the GPU operator installs it, nvidia-ctk only starts nvidia-ctk.real by its host path."""


class NothingThereError(CdiError):
    """The node has no such devices."""


class TooOldError(CdiError):
    """The tool cannot write the specification of one GPU alone."""


def find_tool(settings: CdiSettings, root: str = HOST_ROOT) -> str | None:
    """Return the path of nvidia-ctk: on PATH, beside the hook, or below a root of the host.

    The roots of the host are the mounted driver root, and *root*. A tool that another user can
    change is not run; CdiError if there is no other.
    """
    unsafe = None
    for tool in filter(None, map(shutil.which, places(settings, root))):
        try:
            require_safe_program(Path(tool))
        except OSError as error:
            unsafe = unsafe or error
        else:
            return tool
    if unsafe:
        raise CdiError(str(unsafe))
    return None


def places(settings: CdiSettings, root: str = HOST_ROOT) -> Iterable[str]:
    """Yield where nvidia-ctk may be, the best first."""
    yield TOOL
    beside = str(Path(settings.hook_path).parent)
    yield from (f"{beside}/{name}" for name in NAMES)
    for mounted in (settings.container_driver_root, root):
        for folder in (beside, *FOLDERS):
            yield from (str(Path(mounted, folder.lstrip("/"), name)) for name in NAMES)


class Runs:
    """Runs nvidia-ctk, and remembers the runs that the driver keeps from being killed."""

    def __init__(self) -> None:
        self._stuck: list[subprocess.Popen[bytes]] = []

    def run(self, command: list[str], work: Path, limit: float) -> None:
        """Run *command* for at most *limit* seconds, with a log in *work*; CdiError if it fails."""
        tool = command[0]
        self._stuck = [process for process in self._stuck if process.poll() is None]
        if len(self._stuck) >= MOST_STUCK:
            raise CdiError(f"cannot run {tool}: {MOST_STUCK} earlier runs cannot be killed")
        if limit <= 0:
            raise CdiError(f"cannot run {tool}: earlier runs used up the time limit")
        # Into a file: a process that outlives the tool would keep a pipe open.
        with (work / "log").open("w+b") as log:
            process = subprocess.Popen(
                [*DYING_WITH_US, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            code = self._end_of(process, limit)
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL))
            output = log.read()
        if code is None:
            # Without fractions: the text should not change from try to try.
            raise CdiError(f"cannot run {tool}: killed after {limit:.0f} s without a result")
        if code:
            raise _failure(tool, code, output)

    def _end_of(self, process: "subprocess.Popen[bytes]", limit: float) -> int | None:
        """Return the exit code, or None after killing a process over the limit and its children."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(limit)
        os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(KILL_LIMIT)
        except subprocess.TimeoutExpired:
            self._stuck.append(process)
        return None


def _failure(tool: str, code: int, output: bytes) -> CdiError:
    said = reason(output)
    text = f"cannot run {tool}, exit code {code}: {said[:REASON_LIMIT]}"
    if UNKNOWN_FLAG in output:
        return TooOldError(text, said)
    if any(words in said for words in NOTHING_THERE):
        return NothingThereError(text, said)
    return CdiError(text, said)
