"""What has to hold after every fault, and what is measured for it."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from proto import deviceplugin_pb2 as api
from tests.chaos import truth
from tests.chaos.calls import unless_hung_up
from tests.chaos.world import CHILDREN, World
from tests.conftest import children as children_of
from tests.conftest import title

if TYPE_CHECKING:
    from proto.deviceplugin_pb2_grpc import DevicePluginAsyncStub

MORE_DESCRIPTORS, MORE_THREADS, MORE_KIB = 12, 8, 48 * 1024
"""By how much a process may exceed what the first of its kind had when the run began."""

SAID = {True: "answered", False: "refused", None: "not heard, as somebody had hung up"}
"""What became of an Allocate."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a process holds."""

    descriptors: int
    threads: int
    rss: int
    """KiB."""


def size_of(pid: int) -> Size:
    """Return what a process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Size(
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        len(list(Path(f"/proc/{pid}/task").iterdir())),
        pages * 4,
    )


def sizes(world: World) -> dict[str, Size]:
    """Return what each process of the service holds; one that ends meanwhile is left out."""
    found = {}
    for name, pid in {"supervisor": world.running.process.pid, **world.running.pids()}.items():
        with contextlib.suppress(OSError, IndexError):
            found[name] = size_of(pid)
    return found


def unsettled(world: World) -> Iterator[str]:
    """Yield what is not yet as it has to be, of what the kubelet sees and of the processes."""
    if world.kubelet.up:
        view = {n: one for n, one in world.view().items() if n not in world.blocked}
        yield from truth.difference(view, world.expected())
    if left := [title(pid) for pid in children_of(os.getpid()) - {world.running.process.pid}]:
        yield from (f"left behind: {process}" for process in left if process)
    children = world.running.pids()
    wanted = set(CHILDREN) - world.absent
    if missing := wanted - children.keys():
        yield f"processes missing: {sorted(missing)}"
    if more := children.keys() - set(CHILDREN) - {f"worker {name}" for name in world.expected()}:
        yield f"processes too many: {sorted(more)}"


def swollen(world: World, first: dict[str, Size]) -> Iterator[str]:
    """Yield what holds more than it did when the run began."""
    for name, size in sizes(world).items():
        begun = first.get(name, size)
        if size.descriptors > begun.descriptors + MORE_DESCRIPTORS:
            yield f"{name} has {size.descriptors} descriptors, at first {begun.descriptors}"
        if size.threads > begun.threads + MORE_THREADS:
            yield f"{name} has {size.threads} threads, at first {begun.threads}"
        if size.rss > begun.rss + MORE_KIB:
            yield f"{name} has {size.rss} KiB, at first {begun.rss}"


def bad_lines(world: World) -> Iterator[str]:
    """Yield the log's lines since the last look that tell of a crash."""
    for entry in world.log_since():
        text = json.dumps(entry)
        if "Traceback" in text or "crashed" in text:
            yield f"in the log: {text[:3000]}"


async def allocations(world: World) -> list[str]:
    """Return which devices are given though broken, or refused though well: one of each kind."""
    found = []
    for name, devices in world.expected().items():
        stub = world.kubelet.resources[name].stub
        for wanted in (True, False):
            ids = [one for one, fit in devices.items() if fit is wanted]
            if not ids:
                continue
            answered = await unless_hung_up(_answers(stub, ids[-1]))
            if answered is not wanted:
                found.append(f"Allocate of {ids[-1]} was {SAID[answered]}")
    return found


LATER = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""A worker that ends or begins just then, or a machine that is busy: it is asked again."""


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
