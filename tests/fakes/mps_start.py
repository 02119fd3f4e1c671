"""How long both service trees take until their devices are listed as Healthy."""

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import children as children_of
from tests.fakes.mps_trees import GPU, REPLICAS, Host, mps_host
from tests.fakes.service import kubelet

BECAUSE = "the time of a start is measured"


@dataclass(frozen=True, slots=True)
class Start:
    """What a start took, in milliseconds."""

    wall: float
    undisturbed: float
    """Of these, while no process of the machine waited for a processor."""
    processor: float
    """Processor time of all processes, with the commands to the daemons, but without these."""


async def start(host: Host) -> Start:
    """Start both trees, wait until all replicas are Healthy, and stop both."""
    began, stalled = time.monotonic(), _stalled()
    async with (
        kubelet(host.folder) as node,
        host.plugin(exec_because=BECAUSE) as plugin,
        host.tree(exec_because=BECAUSE) as tree,
    ):
        await node.until(lambda k: k.healthy(GPU) == len(host.uuids) * REPLICAS)
        wall = time.monotonic() - began
        waited = _stalled() - stalled
        used = sum(_used(running.process.pid) for running in (plugin, tree))
        return Start(wall * 1e3, max(0.0, wall - waited) * 1e3, used * 1e3)


def measure() -> Start:
    """Return what a start takes on a new host with two GPUs."""
    with mps_host() as host:
        return asyncio.run(start(host))


def _stalled() -> float:
    """Return for how many seconds any process of this machine has waited for a processor."""
    with contextlib.suppress(FileNotFoundError):  # a kernel without pressure stall information
        words = Path("/proc/pressure/cpu").read_text().split()
        total = next(word for word in words if word.startswith("total="))
        return int(total.removeprefix("total=")) / 1e6
    return 0.0


def _used(pid: int) -> float:
    """Return the processor seconds of a process and all its descendants, reaped ones too."""
    ours = sum(_used(child) for child in children_of(pid))
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return ours + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return ours
