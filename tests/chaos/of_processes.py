"""Faults of the service's processes."""

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

from proto.host import Identity
from tests.chaos.kinds import fault
from tests.chaos.of_kubelet import aside, chosen
from tests.chaos.stage import CHILDREN, HANG, STALE, WORKERS
from tests.chaos.world import World
from tests.conftest import title
from tests.fakes.service import open_files

START = 3.0
"""Seconds until a new service is ready; nothing is promised for this."""


@fault("worker killed", "process", promise=0.1, weight=6)
async def worker_killed(world: World, dice: Random) -> AsyncIterator[None]:
    """Kill a worker; the lists of other resources must not change."""
    victim = dice.choice(WORKERS)
    others = {n: r.lists for n, r in world.kubelet.resources.items() if not victim.endswith(n)}
    await world.replaced(victim, await world.strike(victim, signal.SIGKILL))
    yield
    unheard(world, others, "another worker was killed")


@fault("monitor killed", "process", promise=0.1, weight=6)
async def monitor_killed(world: World, dice: Random) -> AsyncIterator[None]:
    """Kill the monitor; no list may change."""
    del dice
    lists = {name: known.lists for name, known in world.kubelet.resources.items()}
    await world.replaced("monitor", await world.strike("monitor", signal.SIGKILL))
    yield
    unheard(world, lists, "the monitor was killed")


def unheard(world: World, lists: dict[str, int], why: str) -> None:
    """Report a violation if the kubelet got a new list."""
    now = {n: known.lists for n, known in world.kubelet.resources.items() if n in lists}
    if world.alone and now != lists:
        world.violations.append(f"new lists although only {why}: {lists} became {now}")


@fault("exporter killed", "process", promise=1.0, weight=4)
async def exporter_killed(world: World, dice: Random) -> AsyncIterator[None]:
    """Kill the exporter."""
    del dice
    await world.replaced("exporter", await world.strike("exporter", signal.SIGKILL))
    yield


@fault("child terminated", "process", promise=1.0, weight=3)
async def child_terminated(world: World, dice: Random) -> AsyncIterator[None]:
    """Send SIGTERM to a child process; it must be restarted."""
    victim = dice.choice(CHILDREN)
    await world.replaced(victim, await world.strike(victim, signal.SIGTERM))
    yield


@fault("child hangs", "process", promise=HANG + 1.0, weight=2)
async def child_hangs(world: World, dice: Random) -> AsyncIterator[None]:
    """Stop a child process with SIGSTOP; it must be killed and restarted."""
    victim = dice.choice(CHILDREN)
    await world.works(victim)
    await world.replaced(victim, await world.strike(victim, signal.SIGSTOP))
    yield


@fault("child pauses", "process", promise=0.5, weight=3)
async def child_pauses(world: World, dice: Random) -> AsyncIterator[None]:
    """Stop a child process for a moment; it must continue and must not be restarted."""
    victim = dice.choice(CHILDREN)
    pid = await world.strike(victim, signal.SIGSTOP)
    await asyncio.sleep(dice.uniform(0.1, 1.5))
    with contextlib.suppress(ProcessLookupError):  # if it was restarted, the check below reports it
        os.kill(pid, signal.SIGCONT)
    world.happens()
    yield
    if world.running.pids().get(victim) != pid:
        world.violations.append(f"{victim} was restarted although it continued")


@fault("supervisor killed", "service", promise=2.0 + START, weight=3)
async def supervisor_killed(world: World, dice: Random) -> AsyncIterator[None]:
    """Kill the supervisor: every child must end. Then start a new service, as systemd does."""
    del dice
    pids = set(world.running.pids().values())
    world.happens()
    await world.end(signal.SIGKILL)
    await world.until(lambda: not any(map(title, pids)), "end of all processes")
    await world.start()
    yield


@fault("service restarted", "service", promise=5.0 + START, weight=2)
async def service_restarted(world: World, dice: Random) -> AsyncIterator[None]:
    """Restart the service; it must exit with code 0 and leave no socket."""
    del dice
    world.happens()
    code = await world.end(signal.SIGTERM)
    left = [path.name for path in (world.folder / "kubelet").glob("nvidia-*.sock")]
    if code or left:
        world.violations.append(
            f"the service exited with code {code} and left these sockets: {left}"
        )
    await world.start()
    yield


@fault("stranger's socket at the end", "service", promise=5.0 + START, weight=2)
async def stranger_at_the_end(world: World, dice: Random) -> AsyncIterator[None]:
    """Stop the service while another process has a worker's path: its socket must stay."""
    _, path = chosen(world, dice)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(aside(world)))
        end.listen(dice.choice((0, 64)))  # with 0, one more client finds it busy
        aside(world).replace(path)
        theirs = Identity.of(str(path))
        world.happens()
        code = await world.end(signal.SIGTERM)
        if code or Identity.of(str(path)) != theirs:
            world.violations.append(f"exit code {code}, and the socket of another process is gone")
        path.unlink(missing_ok=True)
    await world.start()
    yield


def no_more_descriptors(pid: int, least: int = 0) -> tuple[int, int]:
    """Let a process open no more descriptors than *least* or now; return its earlier limits."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = next(number for number in itertools.count() if number not in taken)
    return resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(free, least), hard))


@fault("descriptors used up", "process", promise=1.0, back=HANG + 2.0, weight=3)
async def descriptors_used_up(world: World, dice: Random) -> AsyncIterator[None]:
    """Let a process open no descriptor for a while; sometimes the kubelet restarts meanwhile."""
    # Not the monitor: the simulated driver opens files in every call, but the real one does not.
    victims = ("exporter", *WORKERS)
    if world.alone:  # a supervisor without descriptors cannot replace what another fault ends
        victims = ("supervisor", *victims)
    victim = dice.choice(victims)
    pid = world.running.process.pid if victim == "supervisor" else await world.pid(victim)
    # Not less: poll() fails if the limit is lower than the number of descriptors that it gets.
    before = no_more_descriptors(pid, least=len(open_files(pid)))
    world.happens()
    if dice.random() < 0.5 and world.alone:
        await world.kubelet.stop()
        await world.kubelet.start()
    # Without a connection to the kubelet, a worker needs a descriptor to register.
    resource_of = victim.removeprefix("worker ")
    blocked = {resource_of} - world.served()
    # Nor may it be connected to a monitor that has just been started.
    if not world.alone and time.monotonic() - world.deaths.get("monitor", [0.0])[-1] < STALE:
        blocked.add(resource_of)
    world.blocked.update(blocked)
    world.absent.add(victim)
    await asyncio.sleep(dice.uniform(0.2, 1.5))
    yield
    world.dies(victim)
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    world.blocked.subtract(blocked)
    world.absent.clear()
