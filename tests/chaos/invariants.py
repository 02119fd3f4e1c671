"""The invariants that are checked after every fault."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from proto import deviceplugin_pb2 as api
from tests.chaos.calls import unless_hung_up
from tests.chaos.stage import CHILDREN
from tests.chaos.world import World
from tests.conftest import children as children_of
from tests.conftest import title

if TYPE_CHECKING:
    from proto.deviceplugin_pb2_grpc import DevicePluginAsyncStub

MORE_DESCRIPTORS, MORE_THREADS, MORE_KIB = 12, 8, 48 * 1024
"""How much more than at the beginning of the run a process may have."""

SAID = {True: "answered", False: "refused", None: "lost, because its channel closed"}
"""The possible results of an Allocate."""


@dataclass(frozen=True, slots=True)
class Size:
    """The resources that a process uses."""

    descriptors: int
    threads: int
    rss: int
    """KiB."""


def size_of(pid: int) -> Size:
    """Return the resources that a process uses now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Size(
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        len(list(Path(f"/proc/{pid}/task").iterdir())),
        pages * 4,
    )


def sizes(world: World) -> dict[str, Size]:
    """Return the resources of each process of the service, without those that end meanwhile."""
    found = {}
    for name, pid in {"supervisor": world.running.process.pid, **world.running.pids()}.items():
        with contextlib.suppress(OSError, IndexError):
            found[name] = size_of(pid)
    return found


def unsettled(world: World) -> Iterator[str]:
    """Yield each difference between the expected and the present lists and processes."""
    if world.kubelet.up:
        yield from world.differs()
    ours = {world.running.process.pid, *world.strangers}
    if left := [title(pid) for pid in children_of(os.getpid()) - ours]:
        yield from (f"process left behind: {process}" for process in left if process)
    children = world.running.pids()
    wanted = set(CHILDREN) - world.absent
    if missing := wanted - children.keys():
        yield f"processes missing: {sorted(missing)}"
    wanted = {*CHILDREN, *(f"worker {name}" for name in world.expected())}
    if more := children.keys() - wanted:
        yield f"unexpected processes: {sorted(more)}"


def swollen(world: World, first: dict[str, Size]) -> Iterator[str]:
    """Yield each process with many more descriptors, threads or memory than at the beginning."""
    for name, size in sizes(world).items():
        begun = first.get(name, size)
        if size.descriptors > begun.descriptors + MORE_DESCRIPTORS:
            yield f"{name} has {size.descriptors} descriptors; at the beginning {begun.descriptors}"
        if size.threads > begun.threads + MORE_THREADS:
            yield f"{name} has {size.threads} threads; at the beginning {begun.threads}"
        if size.rss > begun.rss + MORE_KIB:
            yield f"{name} has {size.rss} KiB; at the beginning {begun.rss}"


def bad_lines(world: World) -> Iterator[str]:
    """Yield the new log entries that report a crash."""
    for entry in world.log_since():
        text = json.dumps(entry)
        if "Traceback" in text or "crashed" in text:
            yield f"crash in the log: {text[:3000]}"


async def allocations(world: World) -> list[str]:
    """Return which devices were allocated although Unhealthy, or refused although Healthy. Tries
    one device of each resource and state.
    """
    found = []
    for name, devices in world.expected().items():
        stub = world.kubelet.resources[name].stub
        for wanted in (True, False):
            ids = [name for name, fit in devices.items() if fit is wanted]
            if not ids:
                continue
            answered = await unless_hung_up(_answers(stub, ids[-1]))
            if answered is not wanted:
                found.append(
                    f"Allocate of {ids[-1]} was {SAID[answered]}, expected: {SAID[wanted]}"
                )
    return found


LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""The worker is restarting or the machine is busy: ask again later."""


async def _answers(stub: "DevicePluginAsyncStub", device: str) -> bool | None:
    request = api.AllocateRequest(
        container_requests=[api.ContainerAllocateRequest(devices_ids=[device])]
    )
    try:
        await stub.Allocate(request, timeout=5.0)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.FAILED_PRECONDITION:
            return False
        if error.code() in LATER:
            return None
        raise
    return True
