"""Faults of GPUs and of the driver, injected into the simulated node."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from random import Random

from proto.control import MarkHealthy
from supervisor.commands.ask import AskError, ask
from tests.chaos import truth
from tests.chaos.kinds import fault
from tests.chaos.stage import LAYOUTS, POLL, QUIET, RESCAN
from tests.chaos.world import World, said

SAME = 0.5
"""The share of pairs in which both faults hit the same GPU."""
FATAL = (48, 62, 74, 79, 95, 119, 120, 140)
HARMLESS = (13, 31, 43, 45)
TOLD = 0.005
"""Seconds until the kubelet's list shows an Xid."""
LOOKED = 2 * POLL
"""Seconds until a check has found a fault that has no event."""
BACK = 2 * QUIET + 4 * POLL
"""Seconds from a repair until the GPU is Healthy again, if it failed at most twice."""


def place_of(
    world: World, dice: Random, places: Iterable[int] = range(8), *, apart: bool = False
) -> int:
    """Return the index of a random GPU that is on the node.

    The second fault of a pair often hits the GPU of the first, or with *apart* always another one.
    """
    live, first = world.live, world.gpus.hit
    there = [place for place in places if live.gpus[place].uuid not in live.removed]
    if first in there and not apart and dice.random() < SAME:
        return first
    world.gpus.hit = dice.choice([place for place in there if place != first])
    return world.gpus.hit


def uuid_of(world: World, place: int) -> str:
    """Return a GPU's UUID."""
    return world.live.gpus[place].uuid


def breaks(world: World, place: int, happen: Callable[[], None]) -> str:
    """Break a GPU with *happen* so that it needs a quiet period, and return its UUID."""
    uuid = uuid_of(world, place)
    world.gpus.relapses[uuid] = world.gpus.relapses.get(uuid, 0) + 1
    return disturbs(world, place, happen)


def disturbs(world: World, place: int, happen: Callable[[], None]) -> str:
    """Break a GPU with *happen* for as long as a check finds it, and return its UUID."""
    uuid = uuid_of(world, place)
    world.gpus.broken_shown.discard(uuid)
    happen()
    world.happens()
    return uuid


async def mend(world: World, place: int, *, quiet: bool = False) -> None:
    """Reset a GPU; from its third fault on, also mark it healthy.

    The wait for its recovery would double with each fault. With *quiet*, the run fails if the GPU
    is listed as Healthy before its quiet period has ended.
    """
    uuid = uuid_of(world, place)
    if quiet and world.gpus.relapses[uuid] <= 2:
        world.gpus.not_before[uuid] = time.monotonic() + QUIET
    hung = uuid in world.live.hung
    world.running.node.reset(place)
    world.happens()
    if world.gpus.relapses[uuid] > 2:
        # A check may have found the fault before its event arrives; a GPU that hung has a backlog.
        await asyncio.sleep(4 * POLL if hung else POLL)
        await vouch(world, uuid)


async def vouch(world: World, uuid: str) -> None:
    """Mark a GPU healthy until it is listed as Healthy: a late Xid may undo the first mark."""
    while not world.hands_out(uuid):
        with contextlib.suppress(AskError):  # the monitor may be restarting
            await asyncio.to_thread(ask, world.folder, MarkHealthy(uuid))
        patience = time.monotonic() + 2 * POLL
        while not world.hands_out(uuid):
            if time.monotonic() > patience:
                break
            await asyncio.sleep(0.002)
        if time.monotonic() > world.deadline:
            raise TimeoutError(f"{uuid} stays Unhealthy after mark-healthy")


@fault("Xid", "device", promise=TOLD, back=BACK, weight=8)
async def xid(world: World, dice: Random) -> AsyncIterator[None]:
    """Report a fatal Xid on a GPU."""
    place, code = place_of(world, dice), dice.choice(FATAL)
    seen = len(world.running.entries)
    uuid = breaks(world, place, lambda: world.running.node.xid(place, code))
    yield
    # The monitor misses an Xid while it does not wait; then a check finds the recovery action.
    told = said(world.running.entries[seen:], "the driver reported a fatal Xid", uuid=uuid)
    await mend(world, place, quiet=world.alone and told)


@fault("Xid on a MIG instance", "device", promise=LOOKED, back=BACK, weight=3)
async def xid_on_mig(world: World, dice: Random) -> AsyncIterator[None]:
    """Report a fatal Xid on a MIG instance; the driver then asks for a reset of its GPU."""
    place = place_of(world, dice, LAYOUTS)
    instance = dice.randrange(len(world.live.gpus[place].mig or ()))
    breaks(world, place, lambda: world.running.node.xid(place, dice.choice(FATAL), instance))
    yield
    await mend(world, place)


@fault("storm of Xids", "device", promise=1.0, back=BACK, weight=2)
async def storm(world: World, dice: Random) -> AsyncIterator[None]:
    """Report a hundred fatal Xids on one GPU, and a hundred harmless Xids on all GPUs."""
    place = place_of(world, dice)

    def happen() -> None:
        for _ in range(100):
            world.running.node.xid(dice.randrange(8), dice.choice(HARMLESS))
            world.running.node.xid(place, dice.choice(FATAL))

    breaks(world, place, happen)
    yield
    await asyncio.sleep(2 * LOOKED)  # do not mark the GPU healthy before all its Xids have arrived
    await mend(world, place)


@fault("Xid of an application", "device", promise=TOLD, weight=2)
async def harmless(world: World, dice: Random) -> AsyncIterator[None]:
    """Report an Xid that an application caused; no list may change."""
    lists = {name: known.lists for name, known in world.kubelet.resources.items()}
    code = dice.choice(HARMLESS)
    world.running.node.xid(dice.randrange(8), code)
    await asyncio.sleep(LOOKED)
    world.happens()
    yield
    now = {name: known.lists for name, known in world.kubelet.resources.items()}
    if world.alone and now != lists:
        world.violations.append(f"new lists after harmless Xid {code}: {lists} became {now}")


@fault("GPU lost", "device", promise=LOOKED, back=BACK, weight=5)
async def lost(world: World, dice: Random) -> AsyncIterator[None]:
    """Lose a GPU. It may answer again before its reset, but must stay Unhealthy."""
    place = place_of(world, dice)
    breaks(world, place, lambda: world.running.node.lose(place))
    yield
    world.running.node.recover(place)
    await asyncio.sleep(dice.uniform(0.0, 3 * POLL))
    await mend(world, place, quiet=world.alone)


@fault("memory error", "device", promise=LOOKED, back=BACK, weight=2)
async def memory_error(world: World, dice: Random) -> AsyncIterator[None]:
    """Report an uncorrectable memory error."""
    place = place_of(world, dice)
    breaks(world, place, lambda: world.running.node.fail_memory(place))
    yield
    await mend(world, place)


@fault("memory row fails", "device", promise=LOOKED, back=BACK, weight=2)
async def row_fails(world: World, dice: Random) -> AsyncIterator[None]:
    """Report a row remapping that failed."""
    place = place_of(world, dice)
    breaks(world, place, lambda: world.running.node.fail_row(place))
    yield
    await mend(world, place)


@fault("recovery action due", "device", promise=LOOKED, back=BACK, weight=2)
async def action_due(world: World, dice: Random) -> AsyncIterator[None]:
    """Have the driver ask for a recovery action."""
    place, action = place_of(world, dice), dice.randint(1, 7)
    breaks(world, place, lambda: world.running.node.ask_for(place, action))
    yield
    await mend(world, place)


@fault("GPU removed and added", "device", promise=RESCAN + 2 * POLL + 1.0, back=BACK + RESCAN + 1.0)
async def removed(world: World, dice: Random) -> AsyncIterator[None]:
    """Remove a GPU and add it again; the wait for events fails first, so it must recover."""
    # Not a GPU that hangs: the service would not know which one has come back.
    place = place_of(world, dice, range(6), apart=True)
    uuid = uuid_of(world, place)
    world.running.node.remove(place)
    world.happens()
    yield
    world.gpus.relapses[uuid] = world.gpus.relapses.get(uuid, 0) + 1
    world.running.node.add(place)
    world.happens()
    if world.gpus.relapses[uuid] > 2:
        await vouch(world, uuid)


@fault("MIG layout changed", "device", promise=RESCAN + 1.0, back=RESCAN + 1.0, weight=3)
async def layout_changed(world: World, dice: Random) -> AsyncIterator[None]:
    """Change a GPU's MIG layout, and change it back."""
    place = place_of(world, dice, LAYOUTS)
    uuid = uuid_of(world, place)
    if not truth.is_enumerable(world.live, uuid):  # it shows the new layout when it answers again
        world.gpus.unseen[uuid] = LAYOUTS[place][0]
    world.running.node.partition(place, dice.choice(LAYOUTS[place][1:]))
    world.happens()
    if not world.alone:  # the other fault may keep the service from seeing the layout
        await world.until(lambda: world.view().keys() and not world.differs(), "new MIG layout")
    yield
    world.running.node.partition(place, LAYOUTS[place][0])
    world.gpus.unseen.pop(uuid, None)
    world.happens()


@fault("access lost", "driver", promise=LOOKED + 1.0, back=POLL + 3.0, weight=2)
async def access_lost(world: World, dice: Random) -> AsyncIterator[None]:
    """Take away the service's access to all GPUs, and give it back."""
    world.running.node.deny(denied=True)
    world.absent.add("monitor")
    world.happens()
    yield
    await asyncio.sleep(dice.uniform(0.0, 1.0))
    world.running.node.deny(denied=False)
    world.dies("monitor")
    world.absent.clear()
    world.happens()
