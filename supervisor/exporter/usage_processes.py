"""Find out whose the processes are that use the GPUs: read /proc and the kubelet's log folders.

A PID may belong to another process by the time it is looked up. So only a process that was there
before the sample counts, and its files are opened through the folder of that very process.
"""

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from proto.exporter import UsageRoots
from proto.messages import UsageState
from supervisor.exporter.usage_cgroup import locate, nests
from supervisor.exporter.usage_logs import LogFolders, owner, read_names
from supervisor.status.usage_owner import UNKNOWN, Owner, OwnerKind, Owners

LONGEST_STAT = 4096
LONGEST_CGROUP = 1 << 16
"""Bytes; more is not read. A path has at most 4096, and cgroup v1 has about a dozen of them."""

MOST_NAMES = 20_000
"""Names that are read of a log folder; a node has some hundred pods."""

MOST_THREADS = 64
"""Threads of a process that are looked at if the first one has ended."""

TICKS = os.sysconf("SC_CLK_TCK")
STARTED = 19
"""The place of starttime in /proc/PID/stat, after the name of the program (proc_pid_stat(5))."""

HOST_NAMESPACE = "pid:[4026531836]"
"""The host's PID namespace (PROC_PID_INIT_INO of the kernel)."""

NO_HOST_PIDS = (
    "cannot see the processes of other containers: run the pod with hostPID: true "
    "(Helm: usage.perContainer=true)"
)


@dataclass(frozen=True, slots=True)
class ReadProcess:
    """A process at the moment of the look-up."""

    started: float
    """Seconds since the node booted; the process may have started up to a tick later."""
    cgroup: str


Found = dict[tuple[str, int], tuple[float, Owner]]
"""Start time and owner of a process, by the root's /proc and PID."""


def find(
    state: UsageState, roots: Sequence[UsageRoots], found_before: Found | None = None
) -> Owners:
    """Return the owners of the processes in *state*, each by the first of *roots* that has it.

    What is found for good is added to *found_before*, and what is in it is not read again.
    """
    problems = {root: problem(root) for root in roots}
    before = {} if found_before is None else found_before
    usable = [_Root(root, before) for root, why in problems.items() if not why]
    if not usable:
        return Owners(problem=next(iter(problems.values()), ""))
    found = {}
    for device in state.devices:
        for process in device.processes or ():
            owners = (root.owner(process.pid, device.taken) for root in usable)
            known = next((owner for owner in owners if owner), UNKNOWN)
            found[device.uuid, process.pid] = known
    return Owners(found)


def problem(root: UsageRoots) -> str:
    """Return why processes cannot be assigned to containers; empty: they can."""
    for folder in (root.pod_logs, root.container_logs):
        try:
            os.scandir(folder).close()
        except OSError as error:
            return (
                f'cannot read the log folder "{folder}": {error.strerror}; mount it read-only '
                "(Helm: usage.perContainer=true)"
            )
    try:
        if str(Path(root.procfs, "self/ns/pid").readlink()) == HOST_NAMESPACE:
            return ""
    except OSError:
        return ""  # not the kernel's
    return "" if _sees_the_node(root.procfs) else NO_HOST_PIDS


def _sees_the_node(procfs: str) -> bool:
    """Return whether PID 1 is the init of a node; a node may itself be a container, as in kind."""
    first, own = read(procfs, 1), read(procfs, "self")
    if first is None or own is None or first.cgroup == own.cgroup:
        return False
    return locate(first.cgroup, nests(own.cgroup)) is None


class _Root:
    """What one root shows at this moment."""

    def __init__(self, root: UsageRoots, before: Found) -> None:
        self._root = root
        self._before = before
        self._processes: dict[int, ReadProcess | None] = {}
        """Those that were read; one process may use many GPUs."""
        self._owners: dict[str, Owner] = {}
        """By the text of the cgroups; a container may have many processes."""

    @functools.cached_property
    def _within(self) -> frozenset[str]:
        own = read(self._root.procfs, "self")
        return nests(own.cgroup) if own else frozenset()

    @functools.cached_property
    def _folders(self) -> LogFolders:
        return read_names(_names(self._root.pod_logs), _names(self._root.container_logs))

    def owner(self, pid: int, taken: float) -> Owner | None:
        """Return whose a process of a sample is; None: there is no process with this PID."""
        started, known = self._before.get((self._root.procfs, pid), (None, UNKNOWN))
        if pid not in self._processes:
            self._processes[pid] = read(self._root.procfs, pid, started)
        process = self._processes[pid]
        if process is None:
            return None
        if process.started + 1 / TICKS > taken:
            return UNKNOWN
        if process.started == started:
            return known
        if started is not None:
            # The driver lists a process that has ended while a child keeps its device file open.
            # So this one has got the PID of another, which has been on the list since.
            return UNKNOWN
        if process.cgroup not in self._owners:
            location = locate(process.cgroup, self._within)
            self._owners[process.cgroup] = owner(location, self._folders)
        found = self._owners[process.cgroup]
        if found.kind is OwnerKind.HOST or found.container:  # else the kubelet may tell more later
            self._before[self._root.procfs, pid] = process.started, found
        return found


def _names(folder: str) -> Iterator[str]:
    """Yield the names in a folder; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry.name for entry in islice(entries, MOST_NAMES))
    except OSError:
        return


def read(procfs: str, pid: int | Literal["self"], known: float | None = None) -> ReadProcess | None:
    """Return the process with this PID; None: there is none, or its files cannot be read.

    If it started at *known*, its cgroups are not read again.
    """
    try:
        # Another process that gets the PID has another folder, and this one is empty then.
        folder = os.open(f"{procfs}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        started = _started(content(folder, "stat", LONGEST_STAT))
        if started is None:
            return None
        cgroup = "" if started == known else _cgroup(folder)
    except OSError:
        return None
    finally:
        os.close(folder)
    return ReadProcess(started, cgroup) if cgroup or started == known else None


def _cgroup(process: int) -> str:
    """Return the cgroups of a process; empty: it has ended.

    Those of cgroup v1 show the node's root for a thread that has ended (proc_cgroup_show of the
    kernel). A process can end its first thread, and go on with others.
    """
    for thread in chain(["."], islice(_threads(process), MOST_THREADS)):
        with contextlib.suppress(OSError):  # it has just ended
            found = content(process, f"{thread}/cgroup", LONGEST_CGROUP)
            # Only now: it may have ended before the cgroups were read.
            if not _has_ended(content(process, f"{thread}/stat", LONGEST_STAT)):
                return found
    return ""


def _threads(process: int) -> Iterator[str]:
    file = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
    try:
        with os.scandir(file) as entries:
            yield from (f"task/{entry.name}" for entry in entries)
    finally:
        os.close(file)


def _has_ended(stat: str) -> bool:
    return stat.rpartition(")")[2].split()[:1] in (["Z"], ["X"])


def _started(stat: str) -> float | None:
    """Return the start time in /proc/PID/stat, in seconds since the node booted; None: not read."""
    # The name of the program is in brackets, and may contain brackets and spaces.
    fields = stat.rpartition(")")[2].split()
    if len(fields) <= STARTED or not fields[STARTED].isdecimal():
        return None
    return int(fields[STARTED]) / TICKS


def content(folder: int, name: str, longest: int) -> str:
    """Return the content of a file; empty if it is longer than *longest* bytes."""
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        data = b"".join(_parts(file, longest + 1))
    finally:
        os.close(file)
    return data.decode(errors="replace") if len(data) <= longest else ""


def _parts(file: int, most: int) -> Iterable[bytes]:
    while most > 0 and (part := os.read(file, most)):
        most -= len(part)
        yield part
