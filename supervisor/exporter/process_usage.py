"""Memory and CPU time of processes, as the kernel counts them."""

import os
from collections.abc import Mapping
from pathlib import Path

from supervisor.exporter.samples import Usage

PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def usage(pids: Mapping[str, int]) -> dict[str, Usage]:
    """Return the usage of each process by name; processes that are gone are left out."""
    found = {name: _usage(pid) for name, pid in pids.items() if pid}
    return {name: used for name, used in found.items() if used}


def _usage(pid: int) -> Usage | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # proc(5): after the name come state (field 3), utime (14), stime (15) and rss (24).
    return Usage(int(fields[21]) * PAGE, (int(fields[11]) + int(fields[12])) / TICKS)
