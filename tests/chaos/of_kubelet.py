"""Faults of the kubelet, and of the folder that is shared with it."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

from tests.chaos.kinds import fault
from tests.chaos.world import RESOURCES, World

LISTED = 0.05
"""Seconds until every resource is listed after the kubelet's socket listens."""
LOOK = 2.0
"""Seconds until a socket is missed and made anew."""
CALL = 5.0
"""Seconds until a call to the kubelet is given up."""


@fault("kubelet restarts", "kubelet", promise=LISTED, weight=6)
async def kubelet_restarts(world: World, dice: Random) -> AsyncIterator[None]:
    """Restart the kubelet, at once or after a while."""
    await world.kubelet.stop()
    await asyncio.sleep(dice.choice((0.0, 0.0, 0.3, 2.0)))
    await world.kubelet.start()
    world.happens()
    yield


@fault("kubelet flaps", "kubelet", promise=LOOK, weight=2)
async def kubelet_flaps(world: World, dice: Random) -> AsyncIterator[None]:
    """Restart the kubelet again and again."""
    for _ in range(dice.randint(2, 6)):
        await world.kubelet.stop()
        await world.kubelet.start()
        await asyncio.sleep(dice.uniform(0.0, 0.1))
    world.happens()
    yield


@fault("kubelet hangs", "kubelet", promise=CALL, weight=2)
async def kubelet_hangs(world: World, dice: Random) -> AsyncIterator[None]:
    """Have the kubelet take connections and answer none, then restart it."""
    await world.kubelet.hang()
    await asyncio.sleep(dice.uniform(0.5, 6.0))
    await world.kubelet.start()
    world.happens()
    yield


@fault("kubelet is slow", "kubelet", promise=1.0 + LISTED, weight=2)
async def kubelet_is_slow(world: World, dice: Random) -> AsyncIterator[None]:
    """Restart the kubelet, which takes its time for each registration."""
    await world.kubelet.stop()
    world.kubelet.slow = dice.uniform(0.3, 1.0)
    await world.kubelet.start()
    world.happens()
    yield
    world.kubelet.slow = 0.0


@fault("kubelet refuses", "kubelet", promise=2.5, weight=2)
async def kubelet_refuses(world: World, dice: Random) -> AsyncIterator[None]:
    """Restart the kubelet, which refuses all registrations for a while."""
    await world.kubelet.stop()
    world.kubelet.refuses = True
    await world.kubelet.start()
    await asyncio.sleep(dice.uniform(0.1, 1.0))
    world.kubelet.refuses = False
    world.happens()
    yield


@fault("kubelet dies registering", "kubelet", promise=1.0, weight=3)
async def kubelet_dies_registering(world: World, dice: Random) -> AsyncIterator[None]:
    """Restart the kubelet, and once more in the middle of a registration."""
    del dice
    await world.kubelet.stop()
    world.kubelet.dies_registering = True
    await world.kubelet.start()
    world.happens()
    await world.until(lambda: not world.kubelet.dies_registering, "registration")
    yield


@fault("plugin folder made anew", "kubelet", promise=LOOK, weight=2)
async def folder_made_anew(world: World, dice: Random) -> AsyncIterator[None]:
    """Remove the plugin folder while the kubelet is away; it makes a new one."""
    await world.kubelet.stop()
    # Out of the way first: a worker may make its socket anew while the folder is emptied.
    shutil.rmtree((world.folder / "kubelet").rename(world.folder / "kubelet-before"))
    await asyncio.sleep(dice.choice((0.0, 0.5, 1.5)))
    await world.kubelet.start()
    world.happens()
    yield


def chosen(world: World, dice: Random) -> tuple[str, Path]:
    """Return a resource that is served, and its worker's socket."""
    names = [name for name in RESOURCES if name in world.kubelet.resources]
    resource = dice.choice(names)
    return resource, world.folder / "kubelet" / world.kubelet.resources[resource].endpoint


def aside(world: World) -> Path:
    """Return where to make what then takes the place of a worker's socket in one step.

    Between two steps the worker might have made its socket anew.
    """
    return world.folder / "aside"


async def registered_again(world: World, resource: str, before: object) -> None:
    """Wait for a registration that is another than the one *before*."""
    await world.until(
        lambda: world.kubelet.resources.get(resource) is not before, f"registration of {resource}"
    )


@fault("own socket deleted", "kubelet", promise=LOOK, weight=4)
async def socket_deleted(world: World, dice: Random) -> AsyncIterator[None]:
    """Delete a worker's socket."""
    resource, path = chosen(world, dice)
    before = world.kubelet.resources[resource]
    path.unlink(missing_ok=True)
    world.happens()
    await registered_again(world, resource, before)
    yield


@fault("own socket is a plain file", "kubelet", promise=LOOK, weight=2)
async def socket_is_a_file(world: World, dice: Random) -> AsyncIterator[None]:
    """Put a plain file in the place of a worker's socket."""
    resource, path = chosen(world, dice)
    before = world.kubelet.resources[resource]
    aside(world).write_text("not a socket")
    aside(world).replace(path)
    world.happens()
    await registered_again(world, resource, before)
    yield


@fault("own socket is a dead one", "kubelet", promise=LOOK, weight=2)
async def socket_is_dead(world: World, dice: Random) -> AsyncIterator[None]:
    """Put a socket in the place of a worker's on which nobody listens."""
    resource, path = chosen(world, dice)
    before = world.kubelet.resources[resource]
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(aside(world)))
    aside(world).replace(path)
    world.happens()
    await registered_again(world, resource, before)
    yield


@fault("own socket is another's", "kubelet", promise=LOOK, back=LOOK + 2.0, weight=2)
async def socket_is_anothers(world: World, dice: Random) -> AsyncIterator[None]:
    """Have another process listen in the place of a worker, which leaves it alone until it ends."""
    resource, path = chosen(world, dice)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(aside(world)))
        end.listen(64)
        aside(world).replace(path)
        world.happens()
        world.blocked.add(resource)
        await world.until(lambda: not world.kubelet.resources[resource].connected, "retreat")
        yield
        path.unlink(missing_ok=True)  # before its end, after which the worker takes its place
    world.blocked.clear()
