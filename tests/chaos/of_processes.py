"""Faults of the service's processes."""

import asyncio
import contextlib
import itertools
import os
import resource
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

from tests.chaos.kinds import fault
from tests.chaos.world import CHILDREN, HANG, WORKERS, World
from tests.conftest import title

START = 3.0
"""Seconds that a fresh interpreter takes to serve; nothing is promised of that."""


@fault("worker killed", "process", promise=0.1, weight=6)
async def worker_killed(world: World, dice: Random) -> AsyncIterator[None]:
    """Kill a worker; the others' streams are left alone."""
    victim = dice.choice(WORKERS)
    others = {n: r.lists for n, r in world.kubelet.resources.items() if not victim.endswith(n)}
    await world.replaced(victim, await world.strike(victim, signal.SIGKILL))
    yield
    unheard(world, others, "another worker was killed")


@fault("monitor killed", "process", promise=0.1, weight=6)
async def monitor_killed(world: World, dice: Random) -> AsyncIterator[None]:
    """Kill the monitor; the kubelet hears nothing of it."""
    del dice
    lists = {name: one.lists for name, one in world.kubelet.resources.items()}
    await world.replaced("monitor", await world.strike("monitor", signal.SIGKILL))
    yield
    unheard(world, lists, "the monitor was killed")


def unheard(world: World, lists: dict[str, int], why: str) -> None:
    """Hold it against the service if the kubelet has got another list."""
    now = {n: one.lists for n, one in world.kubelet.resources.items() if n in lists}
    if world.alone and now != lists:
        world.violations.append(f"lists {lists} became {now}, though only {why}")


@fault("exporter killed", "process", promise=1.0, weight=4)
async def exporter_killed(world: World, dice: Random) -> AsyncIterator[None]:
    """Kill the exporter."""
    del dice
    await world.replaced("exporter", await world.strike("exporter", signal.SIGKILL))
    yield


@fault("child terminated", "process", promise=1.0, weight=3)
async def child_terminated(world: World, dice: Random) -> AsyncIterator[None]:
    """Send SIGTERM to a child, which nobody should; it ends and is started again."""
    victim = dice.choice(CHILDREN)
    await world.replaced(victim, await world.strike(victim, signal.SIGTERM))
    yield


@fault("child hangs", "process", promise=HANG + 1.0, weight=2)
async def child_hangs(world: World, dice: Random) -> AsyncIterator[None]:
    """Stop a child for good: it is killed and started again."""
    victim = dice.choice(CHILDREN)
    await world.works(victim)
    await world.replaced(victim, await world.strike(victim, signal.SIGSTOP))
    yield


@fault("child pauses", "process", promise=0.5, weight=3)
async def child_pauses(world: World, dice: Random) -> AsyncIterator[None]:
    """Stop a child for a while: it goes on, and nobody replaces it."""
    victim = dice.choice(CHILDREN)
    pid = await world.strike(victim, signal.SIGSTOP)
    await asyncio.sleep(dice.uniform(0.1, 1.5))
    with contextlib.suppress(ProcessLookupError):  # if it was replaced, which is told below
        os.kill(pid, signal.SIGCONT)
    world.happens()
    yield
    if world.running.pids().get(victim) != pid:
        world.violations.append(f"{victim} was replaced, though it went on")


@fault("supervisor killed", "service", promise=2.0 + START, weight=3)
async def supervisor_killed(world: World, dice: Random) -> AsyncIterator[None]:
    """Kill the supervisor: every child ends, and a new service takes over, as systemd has it."""
    del dice
    pids = set(world.running.pids().values())
    world.happens()
    await world.end(signal.SIGKILL)
    await world.until(lambda: not any(map(title, pids)), "end of all")
    await world.start()
    yield


@fault("service restarted", "service", promise=5.0 + START, weight=2)
async def service_restarted(world: World, dice: Random) -> AsyncIterator[None]:
    """End the service in order: exit code 0, and none of its sockets is left."""
    del dice
    world.happens()
    code = await world.end(signal.SIGTERM)
    left = [path.name for path in (world.folder / "kubelet").glob("nvidia-*.sock")]
    if code or left:
        world.violations.append(f"the service ended with code {code} and left {left}")
    await world.start()
    yield


def no_more_descriptors(pid: int) -> tuple[int, int]:
    """Let a process open nothing more; return the limits that it had."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # Not 0: poll() refuses to watch more descriptors than may be open.
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = next(number for number in itertools.count() if number not in taken)
    return resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, hard))


@fault("descriptors used up", "process", promise=1.0, back=HANG + 2.0, weight=3)
async def descriptors_used_up(world: World, dice: Random) -> AsyncIterator[None]:
    """Let no process open one more file for a while, when the kubelet restarts or nothing does."""
    # Not the monitor: the simulated driver opens files in every call, which the real one does not.
    victim = dice.choice(("supervisor", "exporter", *WORKERS))
    pid = world.running.process.pid if victim == "supervisor" else await world.pid(victim)
    before = no_more_descriptors(pid)
    world.happens()
    if dice.random() < 0.5 and world.alone:
        await world.kubelet.stop()
        await world.kubelet.start()
        world.blocked |= {victim.removeprefix("worker ")}
    world.absent.add(victim)
    await asyncio.sleep(dice.uniform(0.2, 1.5))
    yield
    world.dies(victim)
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    world.blocked.clear()
    world.absent.clear()
