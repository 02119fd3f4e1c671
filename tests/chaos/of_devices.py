"""Faults of GPUs and of the driver, put into the simulated node."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from random import Random

from proto.control import MarkHealthy
from supervisor.commands.ask import AskError, ask
from tests.chaos.kinds import fault
from tests.chaos.world import HANG, LAYOUTS, POLL, QUIET, RESCAN, World, said

FATAL = (48, 62, 74, 79, 95, 119, 120, 140)
HARMLESS = (13, 31, 43, 45)
TOLD = 0.005
"""Seconds until the kubelet knows of an Xid."""
LOOKED = 2 * POLL
"""Seconds until a look has shown what no event tells."""
BACK = 2 * QUIET + 4 * POLL
"""Seconds from a repair until the GPU is handed out again, after a first relapse at most."""


def place_of(dice: Random) -> int:
    """Return a GPU's place."""
    return dice.randrange(8)


def uuid_of(world: World, place: int) -> str:
    """Return a GPU's UUID."""
    return world.live.gpus[place].uuid


def breaks(world: World, place: int, happen: Callable[[], None]) -> str:
    """Let something happen to a GPU that breaks it, and return its UUID."""
    uuid = uuid_of(world, place)
    world.broken_shown.discard(uuid)
    world.relapses[uuid] = world.relapses.get(uuid, 0) + 1
    happen()
    world.happens()
    return uuid


async def mend(world: World, place: int, *, quiet: bool = False) -> None:
    """Reset a GPU; the first time it has to prove itself, later the operator vouches for it.

    After each relapse the proof takes twice as long. Where it has to be *quiet* that is checked.
    """
    uuid = uuid_of(world, place)
    if quiet and world.relapses[uuid] <= 2:
        world.not_before[uuid] = time.monotonic() + QUIET
    world.running.node.reset(place)
    world.happens()
    if world.relapses[uuid] > 2:
        await asyncio.sleep(POLL)  # a look may have shown what an event on its way tells again
        await vouch(world, uuid)


async def vouch(world: World, uuid: str) -> None:
    """Say that a GPU is well, until it is handed out: an Xid may come after the first word."""
    while not world.hands_out(uuid):
        with contextlib.suppress(AskError):  # the monitor may be away
            await asyncio.to_thread(ask, world.folder, MarkHealthy(uuid))
        patience = time.monotonic() + 2 * POLL
        while not world.hands_out(uuid):
            if time.monotonic() > patience:
                break
            await asyncio.sleep(0.002)
        if time.monotonic() > world.deadline:
            raise TimeoutError(f"{uuid} stays Unhealthy though the operator vouches for it")


@fault("Xid", "device", promise=TOLD, back=BACK, weight=8)
async def xid(world: World, dice: Random) -> AsyncIterator[None]:
    """Let a fatal Xid happen."""
    place, code = place_of(dice), dice.choice(FATAL)
    seen = len(world.running.entries)
    uuid = breaks(world, place, lambda: world.running.node.xid(place, code))
    yield
    # One that comes while nobody waits is never seen; a look shows what the driver asks for.
    told = said(world.running.entries[seen:], "the driver reported a fatal Xid", uuid=uuid)
    await mend(world, place, quiet=world.alone and told)


@fault("Xid on a MIG instance", "device", promise=LOOKED, back=BACK, weight=3)
async def xid_on_mig(world: World, dice: Random) -> AsyncIterator[None]:
    """Let a fatal Xid happen that names an instance; the driver then wants the GPU reset."""
    place = dice.choice(tuple(LAYOUTS))
    instance = dice.randrange(len(world.live.gpus[place].mig or ()))
    breaks(world, place, lambda: world.running.node.xid(place, dice.choice(FATAL), instance))
    yield
    await mend(world, place)


@fault("storm of Xids", "device", promise=1.0, back=BACK, weight=2)
async def storm(world: World, dice: Random) -> AsyncIterator[None]:
    """Let a hundred Xids happen at once, on one GPU and harmless ones on all."""
    place = place_of(dice)

    def happen() -> None:
        for _ in range(100):
            world.running.node.xid(place_of(dice), dice.choice(HARMLESS))
            world.running.node.xid(place, dice.choice(FATAL))

    breaks(world, place, happen)
    yield
    await asyncio.sleep(2 * LOOKED)  # nobody vouches for a GPU in the middle of a storm
    await mend(world, place)


@fault("Xid of an application", "device", promise=TOLD, weight=2)
async def harmless(world: World, dice: Random) -> AsyncIterator[None]:
    """Let an Xid happen that is an application's own fault: nothing changes."""
    lists = {name: one.lists for name, one in world.kubelet.resources.items()}
    code = dice.choice(HARMLESS)
    world.running.node.xid(place_of(dice), code)
    await asyncio.sleep(LOOKED)
    world.happens()
    yield
    now = {n: one.lists for n, one in world.kubelet.resources.items()}
    if world.alone and now != lists:
        world.violations.append(f"lists {lists} became {now}, though Xid {code} is harmless")


@fault("GPU lost", "device", promise=LOOKED, back=BACK, weight=5)
async def lost(world: World, dice: Random) -> AsyncIterator[None]:
    """Let a GPU fall off the bus; that it answers again proves nothing, a reset does."""
    place = place_of(dice)
    breaks(world, place, lambda: world.running.node.lose(place))
    yield
    world.running.node.recover(place)
    await asyncio.sleep(dice.uniform(0.0, 3 * POLL))
    await mend(world, place, quiet=world.alone)


@fault("memory error", "device", promise=LOOKED, back=BACK, weight=2)
async def memory_error(world: World, dice: Random) -> AsyncIterator[None]:
    """Let a memory error happen that cannot be corrected."""
    place = place_of(dice)
    breaks(world, place, lambda: world.running.node.fail_memory(place))
    yield
    await mend(world, place)


@fault("memory row fails", "device", promise=LOOKED, back=BACK, weight=2)
async def row_fails(world: World, dice: Random) -> AsyncIterator[None]:
    """Let a memory row fail for good."""
    place = place_of(dice)
    breaks(world, place, lambda: world.running.node.fail_row(place))
    yield
    await mend(world, place)


@fault("recovery action due", "device", promise=LOOKED, back=BACK, weight=2)
async def action_due(world: World, dice: Random) -> AsyncIterator[None]:
    """Have the driver ask for a recovery."""
    place, action = place_of(dice), dice.randint(1, 7)
    breaks(world, place, lambda: world.running.node.ask_for(place, action))
    yield
    await mend(world, place)


@fault("driver hangs", "driver", promise=HANG + 1.0, back=BACK + 3.0, weight=2)
async def driver_hangs(world: World, dice: Random) -> AsyncIterator[None]:
    """Let no call on a GPU return: nothing is known of any."""
    place = place_of(dice)
    breaks(world, place, lambda: world.running.node.hang(place))
    world.dies("monitor")
    world.absent.add("monitor")
    await asyncio.sleep(dice.uniform(0.0, HANG + 2.0))
    yield
    world.dies("monitor")
    await mend(world, place)
    world.absent.clear()


@fault("GPU removed and added", "device", promise=RESCAN + 2 * POLL + 1.0, back=BACK + RESCAN + 1.0)
async def removed(world: World, dice: Random) -> AsyncIterator[None]:
    """Take a GPU out and put it back; the wait for its events fails first, so it has to recover."""
    place = dice.randrange(6)
    uuid = uuid_of(world, place)
    world.running.node.remove(place)
    world.happens()
    yield
    world.relapses[uuid] = world.relapses.get(uuid, 0) + 1
    world.running.node.add(place)
    world.happens()
    if world.relapses[uuid] > 2:
        await vouch(world, uuid)


@fault("MIG layout changed", "device", promise=RESCAN + 1.0, back=RESCAN + 1.0, weight=3)
async def layout_changed(world: World, dice: Random) -> AsyncIterator[None]:
    """Part a GPU anew, and then as it was."""
    place = dice.choice(tuple(LAYOUTS))
    world.running.node.partition(place, dice.choice(LAYOUTS[place][1:]))
    world.happens()
    yield
    world.running.node.partition(place, LAYOUTS[place][0])
    world.happens()


@fault("access lost", "driver", promise=LOOKED + 1.0, back=POLL + 3.0, weight=2)
async def access_lost(world: World, dice: Random) -> AsyncIterator[None]:
    """Take the access to all GPUs away from the service, and give it back."""
    world.running.node.deny(denied=True)
    world.absent.add("monitor")
    world.happens()
    yield
    await asyncio.sleep(dice.uniform(0.0, 1.0))
    world.running.node.deny(denied=False)
    world.dies("monitor")
    world.absent.clear()
    world.happens()
