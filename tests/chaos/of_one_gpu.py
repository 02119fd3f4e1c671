"""Faults of one GPU that take no other GPU along: it hangs, is slow, fails, or loses NVLinks."""

import asyncio
import signal
from collections.abc import AsyncIterator
from random import Random

from tests.chaos import truth
from tests.chaos.kinds import KINDS, fault
from tests.chaos.of_devices import LOOKED, disturbs, place_of
from tests.chaos.of_processes import START
from tests.chaos.stage import HANG, LINKED, NVLINKS, POLL, RESCAN
from tests.chaos.world import World

UNKNOWN = 999
"""NVML_ERROR_UNKNOWN."""

SLOW, SLOW_IN_A_PAIR = (20, 100, 1000), (5, 20, 50)
"""Milliseconds of a slow call; a check has about 30 calls, an enumeration of MIG instances 60."""


def others_stay(world: World, *uuids: str) -> None:
    """Let the run fail if any other GPU is listed as Unhealthy during this step."""
    if world.alone:
        world.gpus.steady = frozenset(gpu.uuid for gpu in world.live.gpus) - set(uuids)


@fault("GPU hangs", "gpu", promise=HANG + 1.0, back=LOOKED, weight=4)
async def gpu_hangs(world: World, dice: Random) -> AsyncIterator[None]:
    """Let no call on a GPU return for a while; only that GPU may become Unhealthy."""
    place = place_of(world, dice)
    monitor = world.running.pids().get("monitor")
    uuid = disturbs(world, place, lambda: world.running.node.hang(place))
    others_stay(world, uuid)
    await asyncio.sleep(dice.uniform(0.0, HANG + 2.0))
    yield
    if world.alone and world.running.pids().get("monitor") != monitor:
        world.violations.append("the monitor was restarted although only one GPU hung")
    node = world.running.node
    dice.choice((node.recover, node.reset))(place)
    world.happens()


@fault("GPU is slow", "gpu", promise=5.0, back=LOOKED, weight=3)
async def gpu_is_slow(world: World, dice: Random) -> AsyncIterator[None]:
    """Let each call on a GPU take longer: no list may change, and pods are admitted."""
    place = place_of(world, dice)
    lists = {name: known.lists for name, known in world.kubelet.resources.items()}
    milliseconds = dice.choice(SLOW if world.alone else SLOW_IN_A_PAIR)
    world.running.node.slow_down(place, milliseconds)
    world.happens()
    others_stay(world)
    admitted = world.admitted
    await asyncio.sleep(dice.uniform(1.0, 3.0))
    if world.alone:
        await world.until(lambda: world.admitted > admitted, "admitted pod")
    yield
    world.running.node.slow_down(place, 0)
    world.happens()
    now = {name: known.lists for name, known in world.kubelet.resources.items()}
    if world.alone and now != lists:
        world.violations.append(f"new lists for a slow GPU: {lists} became {now}")


@fault("driver call fails", "gpu", promise=3 * POLL, back=LOOKED, weight=3)
async def call_fails(world: World, dice: Random) -> AsyncIterator[None]:
    """Let one call of a GPU's check fail: it becomes Unhealthy after two checks, until it ends."""
    place = place_of(world, dice)
    calls = sorted(truth.CHECKS | ({truth.LINK_STATE} if place in LINKED else set()))
    call = dice.choice(calls)
    uuid = disturbs(world, place, lambda: world.running.node.fail(place, call, UNKNOWN))
    others_stay(world, uuid)
    if not world.alone:  # a monitor that is stopped before the second check does not tell it
        await world.until(lambda: not world.hands_out(uuid), f"Unhealthy {uuid}")
    yield
    world.running.node.fail(place, call, 0)
    world.happens()


@fault("GPU not enumerated", "gpu", promise=0.5 + 3 * POLL, back=RESCAN + 0.5 + LOOKED, weight=3)
async def not_enumerated(world: World, dice: Random) -> AsyncIterator[None]:
    """Let a new monitor fail to enumerate a GPU: it stays listed, as Unhealthy."""
    place, call = place_of(world, dice), dice.choice(sorted(truth.ENUMERATION))
    uuid = disturbs(world, place, lambda: world.running.node.fail(place, call, UNKNOWN))
    others_stay(world, uuid)
    if "monitor" not in world.absent:
        await world.replaced("monitor", await world.strike("monitor", signal.SIGKILL))
    yield
    world.running.node.fail(place, call, 0)
    world.happens()


@fault("NVLinks down", "gpu", promise=LOOKED, back=LOOKED, weight=3)
async def links_down(world: World, dice: Random) -> AsyncIterator[None]:
    """Take NVLinks of a GPU down; only a reset brings them up."""
    place, links = place_of(world, dice, LINKED), dice.randint(1, NVLINKS)
    uuid = disturbs(world, place, lambda: world.running.node.take_links_down(place, links))
    others_stay(world, uuid)
    yield
    world.running.node.recover(place)
    await asyncio.sleep(dice.uniform(0.0, 3 * POLL))
    world.running.node.reset(place)
    world.happens()


RESTARTS = ("monitor killed", "quiesce and resume", "supervisor killed", "service restarted")


@fault("NVLinks down over a restart", "links", promise=5.0 + START, back=LOOKED, weight=3)
async def links_down_over_a_restart(world: World, dice: Random) -> AsyncIterator[None]:
    """Take NVLinks of a GPU down and restart what has seen it: the GPU must stay Unhealthy."""
    place, links = place_of(world, dice, LINKED), dice.randint(1, NVLINKS)
    uuid = disturbs(world, place, lambda: world.running.node.take_links_down(place, links))
    await world.until(lambda: uuid in world.gpus.broken_shown, f"Unhealthy {uuid}")
    async with KINDS[dice.choice(RESTARTS)].story(world, dice):
        pass
    yield
    world.running.node.reset(place)
    world.happens()
