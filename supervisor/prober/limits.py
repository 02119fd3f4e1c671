"""Limit what a probe takes from the node: a low priority, and a cgroup where that is possible."""

import contextlib
import os
from pathlib import Path

NICE = 10
"""Added to the priority of the probe's process."""

KILL_FIRST = "900"
"""Its oom_score_adj: when memory is short, the kernel kills it before a pod's process."""

LIMITS = {"cpu.max": "100000 100000", "pids.max": "512", "memory.max": str(8 << 30)}
"""One core, 512 tasks, 8 GiB."""


def own_group(cgroups: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc/self")) -> Path:
    """Return the folder of this process's cgroup (version 2)."""
    line = (proc / "cgroup").read_text().splitlines()[-1]
    return cgroups / line.partition("::")[2].lstrip("/")


def apply(pid: int, group: Path | None = None) -> str:
    """Limit the process *pid*; return why it has no cgroup of its own, empty if it has one.

    A cgroup needs a hierarchy that this process may write: in most containers it is read-only.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICE)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(KILL_FIRST)
    try:
        own = (group or own_group()) / "probe"
        own.mkdir(exist_ok=True)
        for name, limit in LIMITS.items():
            # Without the controller there is no such file; only the kernel creates it.
            with (
                contextlib.suppress(FileNotFoundError, PermissionError),
                (own / name).open("r+") as f,
            ):
                f.write(limit)
        (own / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        return error.strerror or str(error)
    return ""
