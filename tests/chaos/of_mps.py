"""Faults of the MPS daemons, their clients, and both service trees."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from proto.mps import Phase
from proto.requests import Quiesce, Resume
from supervisor.commands.ask import ask
from tests.chaos.mps_world import STALE, MpsWorld
from tests.fakes.mps_trees import FILES, GPU, daemons

Story = Callable[[MpsWorld, Random], Awaitable[None]]

START = 3.0
"""Seconds until a new service is ready; nothing is promised for this."""

WITHOUT_SERVER = 1.5
"""Seconds that a device stays Healthy without a server, at least."""

READ = 1.5
"""Seconds in which settings are read, which leaves no trace if they are equal."""

AGAIN = "Healthy again"


@dataclass(frozen=True, slots=True)
class MpsKind:
    """A kind of fault: its story injects the fault, and waits for all that is promised."""

    name: str
    weight: int
    story: Story


MPS_KINDS: dict[str, MpsKind] = {}


def fault(name: str, weight: int = 2) -> Callable[[Story], Story]:
    """Register a story as a kind of fault."""

    def register(story: Story) -> Story:
        MPS_KINDS[name] = MpsKind(name, weight, story)
        return story

    return register


def _chosen(world: MpsWorld, dice: Random) -> str:
    return world.host.uuids[dice.randrange(len(world.host.uuids))]


async def _others_work(world: MpsWorld, *ended: str) -> None:
    """Fail if the client of a device has ended that the fault did not hit."""
    idle = [uuid for uuid in world.host.uuids if not world.working(uuid)]
    world.violations += [f"the client of {uuid} has ended" for uuid in set(idle) - {*ended}]
    world.check()


async def _other_server(world: MpsWorld, uuid: str, before: int) -> None:
    """Wait until a GPU has another server than *before*, and its limits were read."""
    found = {before}

    def other() -> bool:
        found.update(world.servers(uuid))
        return len(found) > 1

    took = await world.within(2.0, other, f"other server of {uuid}")
    world.note("another server", took)

    def verified() -> bool:
        asked = world.host.mps.commands(uuid)
        return any(f"get_device_pinned_mem_limit {pid} {uuid}" in asked for pid in found - {before})

    await world.within(2.0, verified, f"verified server of {uuid}")
    await _others_work(world, uuid)


@fault("MPS daemon killed", weight=4)
async def daemon_killed(world: MpsWorld, dice: Random) -> None:
    """Kill a daemon: its device is Unhealthy until another one is verified."""
    uuid = _chosen(world, dice)
    world.victims = world.renewed = frozenset({uuid})
    delay = world.fails(uuid)
    os.kill(world.kept[uuid], signal.SIGKILL)
    told = await world.within(0.2, lambda: world.unusable(uuid), f"{uuid} Unhealthy")
    world.note("Unhealthy", told)
    world.note(AGAIN, told + await world.within(2.0 + delay, world.settled, f"{uuid} Healthy"))
    await _others_work(world, uuid)


@fault("MPS server killed", weight=4)
async def server_killed(world: MpsWorld, dice: Random) -> None:
    """Kill a server: its daemon starts another one before the kubelet would be told."""
    uuid = _chosen(world, dice)
    (before,) = world.servers(uuid)
    world.bear(WITHOUT_SERVER, uuid)
    os.kill(before, signal.SIGKILL)
    await _other_server(world, uuid, before)


@fault("fault of an MPS client", weight=4)
async def client_fault(world: MpsWorld, dice: Random) -> None:
    """Let a client fault: its device is Unhealthy until that client has ended."""
    uuid = _chosen(world, dice)
    await world.employ("--fault", "--stay", only=uuid)
    world.victims = frozenset({uuid})
    world.clients[uuid].tell()
    (before,) = world.servers(uuid)
    told = await world.within(0.5, lambda: world.unusable(uuid), f"{uuid} Unhealthy")
    world.note("Unhealthy", told)
    await world.dismiss(uuid)
    world.note(AGAIN, await world.within(1.0, world.settled, f"{uuid} Healthy"))
    await _other_server(world, uuid, before)


@fault("MPS client killed", weight=3)
async def client_killed(world: MpsWorld, dice: Random) -> None:
    """Kill a client: its server is replaced, and the kubelet sees nothing."""
    uuid = _chosen(world, dice)
    (before,) = world.servers(uuid)
    world.bear(WITHOUT_SERVER, uuid)
    await asyncio.to_thread(world.clients[uuid].end, kill=True)
    await _other_server(world, uuid, before)


async def _replaced(world: MpsWorld, tree: str, child: str) -> None:
    """Kill a process of a tree; wait for its successor. The kubelet may see nothing."""
    running = world.tree if tree == "tree" else world.plugin
    before = running.kill(child)
    delay = world.fails(f"{tree} {child}")

    def other() -> bool:
        return running.pids().get(child, before) != before

    world.note("another process", await world.within(2.0 + delay, other, f"new {child}"))
    if running is world.tree:
        await _all_told(world)  # else the silences of several faults would add up
    await world.within(2.0, world.settled, "device that is Healthy")
    await _others_work(world)


async def _all_told(world: MpsWorld) -> None:
    """Wait until the tree tells that all daemons are ready."""
    await daemons(world.host.folder, Phase.READY, len(world.host.uuids))


@fault("MPS keeper killed", weight=4)
async def keeper_killed(world: MpsWorld, dice: Random) -> None:
    """Kill a keeper: the next one adopts the daemon."""
    uuid = _chosen(world, dice)
    seen = len(world.tree.entries)
    await _replaced(world, "tree", f"mps {uuid}")
    # The next fault is not one of a daemon that nobody keeps.
    await world.tree.logged("an MPS device is ready", after=seen, uuid=uuid)


@fault("MPS bus killed")
async def bus_killed(world: MpsWorld, dice: Random) -> None:
    """Kill the process between the keepers and the plugin."""
    del dice
    await _replaced(world, "tree", "mps bus")


@fault("worker of MPS devices killed")
async def worker_killed(world: MpsWorld, dice: Random) -> None:
    """Kill the plugin's worker: its first list is Healthy."""
    del dice
    await _replaced(world, "plugin", f"worker {GPU}")


@fault("monitor killed")
async def monitor_killed(world: MpsWorld, dice: Random) -> None:
    """Kill the plugin's monitor, which tells the MPS tree of the GPUs."""
    del dice
    await _replaced(world, "plugin", "monitor")


@fault("MPS tree killed", weight=3)
async def tree_killed(world: MpsWorld, dice: Random) -> None:
    """Kill the tree and start it again: it adopts all daemons, and the kubelet sees nothing."""
    del dice
    await world.end("tree", signal.SIGKILL)
    await _starts_again(world, "tree")


@fault("MPS tree killed and silent")
async def tree_silent(world: MpsWorld, dice: Random) -> None:
    """Kill the tree, and start it only when all its devices are Unhealthy."""
    del dice
    world.victims = frozenset(world.host.uuids)
    await world.end("tree", signal.SIGKILL)

    def silent() -> bool:
        return all(map(world.unusable, world.host.uuids))

    world.note("Unhealthy", await world.within(STALE + 1.0, silent, "device that is Unhealthy"))
    await _starts_again(world, "tree")


async def _starts_again(world: MpsWorld, *names: str) -> None:
    """Start these trees; wait until the tree of MPS has adopted all daemons."""
    began = time.monotonic()
    for name in names:
        await world.start(name)
    await _all_told(world)
    world.note("adopted since the start", time.monotonic() - began)
    await world.within(START, world.settled, "device that is Healthy")
    await _others_work(world)


@fault("plugin killed", weight=3)
async def plugin_killed(world: MpsWorld, dice: Random) -> None:
    """Kill or stop the plugin and start it again: its first list is Healthy."""
    await world.end("plugin", dice.choice((signal.SIGKILL, signal.SIGTERM)))
    began = time.monotonic()
    await world.start("plugin")
    await world.within(START, world.settled, "device that is Healthy")
    world.note("Healthy since the start", time.monotonic() - began)
    await _others_work(world)


@fault("both killed")
async def both_killed(world: MpsWorld, dice: Random) -> None:
    """Kill both trees and start them in any order: the daemons are adopted."""
    names = ["plugin", "tree"]
    for name in names:
        await world.end(name, signal.SIGKILL)
    # Without a plugin nobody knows which GPUs there are, so the devices wait for both.
    world.victims = frozenset(world.host.uuids)
    dice.shuffle(names)
    await _starts_again(world, *names)


@fault("quiesce and resume of MPS")
async def quiesced(world: MpsWorld, dice: Random) -> None:
    """Quiesce the tree while one device has no client: only that daemon ends, until resume."""
    uuid = _chosen(world, dice)
    await world.dismiss(uuid)
    world.victims, world.renewed = frozenset(world.host.uuids), frozenset({uuid})
    folder = world.host.folder / "mps"
    await asyncio.to_thread(ask, folder, Quiesce())

    def ended() -> bool:
        return uuid not in world.daemons() and all(map(world.unusable, world.host.uuids))

    world.note("daemon ended", await world.within(4.0, ended, f"end of the daemon of {uuid}"))
    await asyncio.to_thread(ask, folder, Resume())
    world.note(AGAIN, await world.within(2.0, world.settled, "device that is Healthy"))
    await _others_work(world, uuid)


@fault("equal settings read again")
async def reloaded(world: MpsWorld, dice: Random) -> None:
    """Replace the files by equal ones, and send SIGHUP: no process changes."""
    trees = (world.plugin, world.tree)
    before = [running.pids() for running in trees]
    if dice.random() < 0.5:
        for file in (world.host.folder / name for name in FILES):
            new = file.with_suffix(".new")
            new.write_text(file.read_text())
            new.rename(file)
    for running in trees:
        running.process.send_signal(signal.SIGHUP)
    await asyncio.sleep(READ)

    def same() -> bool:  # but for a moment: another reading begins under its parent's name
        return [running.pids() for running in trees] == before

    await world.within(1.0, same, "same processes")
    await _others_work(world)
