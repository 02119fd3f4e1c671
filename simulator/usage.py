"""The processes that use the simulated GPUs, and the files that show whose they are.

A process of a pod has files as the kernel and the kubelet make them, in the runtime folder, and a
PID that no real process can have.
"""

import hashlib
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec.structs import replace

from proto.host import since_boot

FIRST_PID = (1 << 22) + 1
"""Real PIDs are at most 2^22."""

CONTAINER = "main"
"""The container of a pod that names none."""

KINDS = ("compute", "graphics", "mps")

RESERVED_MIB = 605
"""What the driver keeps of an H100's memory."""

NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")
POD = re.compile(rf"{NAME.pattern}/[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?")

LONGEST_NAME = 255
"""Bytes of a file's name on Linux."""

PERIOD = 90.0
"""Seconds in which the utilization of a lively process rises and falls once."""

UID_LENGTH = 36

NAMESPACE = uuid.UUID("6f1c0f5e-8b0c-4b52-9c39-1f6f6e2f7a11")
"""UIDs of pods are made from their names."""


class Use(msgspec.Struct, frozen=True):
    """A process on one GPU, or on a MIG instance."""

    memory_mib: int
    utilization: int = 0
    """Percent."""
    pod: str = ""
    """NAMESPACE/NAME; empty: a process of the host."""
    container: str = CONTAINER
    kind: str = "compute"
    mig: int | None = None
    """The place of the MIG instance."""
    pid: int = 0
    """0: a PID of the simulation."""
    lively: bool = False
    """Whether the utilization rises and falls, for a page that shows something."""

    @property
    def simulated(self) -> bool:
        """Whether the process exists only in the simulation."""
        return self.pid >= FIRST_PID

    def busy(self, now: float) -> int:
        """Return the utilization at *now*."""
        if not self.lively:
            return self.utilization
        turn = 2 * math.pi * (now / PERIOD + self.pid / 7)
        return max(0, min(100, round(self.utilization * (1 + 0.3 * math.sin(turn)))))


Uses = Mapping[str, tuple[Use, ...]]
"""The processes of each GPU, by UUID."""


def after_use(uses: Uses, gpu: str, use: Use) -> dict[str, tuple[Use, ...]]:
    """Return *uses* with this process on the GPU; without it, if it uses 0 MiB.

    A process has one PID on all GPUs.
    """
    everyone = [known for processes in uses.values() for known in processes]
    container = use.pod, use.container
    simulated = [known for known in everyone if known.simulated]
    pid = use.pid or next((u.pid for u in simulated if (u.pod, u.container) == container), 0)
    pid = pid or max([FIRST_PID - 1, *(known.pid for known in everyone)]) + 1
    others = tuple(
        known for known in uses.get(gpu, ()) if not (known.pid == pid and known.mig == use.mig)
    )
    new = (*others, replace(use, pid=pid)) if use.memory_mib else others
    return {uuid: processes for uuid, processes in {**uses, gpu: new}.items() if processes}


def used_mib(uses: Iterable[Use], mig: int | None = None) -> int:
    """Return the memory in use on a GPU, or on its MIG instance at place *mig*."""
    return sum(use.memory_mib for use in uses if mig in (None, use.mig))


def show(procfs: Path, logs: Path, uses: Uses) -> None:
    """Write the files of the simulated processes, and delete those of processes that have ended."""
    running = {use.pid: use for processes in uses.values() for use in processes if use.simulated}
    for name in ("pods", "containers"):
        (logs / name).mkdir(parents=True, exist_ok=True)
    for folder in procfs.iterdir():
        if folder.name.isdecimal() and int(folder.name) not in running:
            shutil.rmtree(folder)
    for pid, use in running.items():
        if use.pod:
            _show_pod(logs, use)
        if not (procfs / str(pid)).exists():
            _show_process(procfs, use)


def _show_pod(logs: Path, use: Use) -> None:
    namespace, _, name = use.pod.partition("/")
    folder = logs / "pods" / f"{namespace}_{name}_{_uid(use)}" / use.container
    folder.mkdir(parents=True, exist_ok=True)
    # The kubelet cuts what is longer than a file's name may be.
    text = f"{name}_{namespace}_{use.container}-{_container_id(use)}"[: LONGEST_NAME - len(".log")]
    link = logs / "containers" / f"{text}.log"
    if not link.is_symlink():
        link.symlink_to(folder / "0.log")


def _show_process(procfs: Path, use: Use) -> None:
    # In one step: a reader must find either the whole process or none.
    new = procfs / f"{use.pid}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    # Not now: a process that starts in the moment of a sample does not count.
    started = int((since_boot() - 1) * os.sysconf("SC_CLK_TCK"))
    zeros = " ".join(["0"] * 17)
    (new / "stat").write_text(f"{use.pid} (simulated) S 1 {zeros} {started} 0 0\n")
    pod = f"/kubepods/pod{_uid(use)}/{_container_id(use)}"
    (new / "cgroup").write_text(f"0::{pod if use.pod else '/system.slice/simulated.service'}\n")
    new.replace(procfs / str(use.pid))


def fits(pod: str) -> bool:
    """Return whether the kubelet can make the log folder of a pod, NAMESPACE/NAME."""
    return len(pod) + len("_") + UID_LENGTH <= LONGEST_NAME


def _uid(use: Use) -> str:
    return str(uuid.uuid5(NAMESPACE, use.pod))


def _container_id(use: Use) -> str:
    return hashlib.sha256(f"{use.pod}/{use.container}".encode()).hexdigest()
