"""Faults of the kubelet and of its plugin folder."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

from tests.chaos.kinds import fault
from tests.chaos.stage import RESOURCES
from tests.chaos.world import World

LISTED = 0.05
"""Seconds from the listening kubelet until every resource is listed."""
LOOK = 2.0
"""Seconds until a worker has noticed that its socket is gone and has created a new one."""


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
    """Restart the kubelet several times in a row."""
    for _ in range(dice.randint(2, 6)):
        await world.kubelet.stop()
        await world.kubelet.start()
        await asyncio.sleep(dice.uniform(0.0, 0.1))
    world.happens()
    yield


@fault("kubelet hangs", "kubelet", promise=LISTED, weight=2)
async def kubelet_hangs(world: World, dice: Random) -> AsyncIterator[None]:
    """Let the kubelet accept connections and answer no call, then restart it."""
    await world.kubelet.hang()
    await asyncio.sleep(dice.uniform(0.5, 6.0))
    await world.kubelet.start()
    world.happens()
    yield


@fault("kubelet is slow", "kubelet", promise=1.0 + LISTED, weight=2)
async def kubelet_is_slow(world: World, dice: Random) -> AsyncIterator[None]:
    """Restart the kubelet, and let it answer registrations slowly."""
    await world.kubelet.stop()
    world.kubelet.slow = dice.uniform(0.3, 1.0)
    await world.kubelet.start()
    world.happens()
    yield
    world.kubelet.slow = 0.0


@fault("kubelet refuses", "kubelet", promise=2.5, weight=2)
async def kubelet_refuses(world: World, dice: Random) -> AsyncIterator[None]:
    """Restart the kubelet, and let it refuse registrations for a while."""
    await world.kubelet.stop()
    world.kubelet.refuses = True
    await world.kubelet.start()
    await asyncio.sleep(dice.uniform(0.1, 1.0))
    world.kubelet.refuses = False
    world.happens()
    yield


@fault("kubelet dies registering", "kubelet", promise=1.0, weight=3)
async def kubelet_dies_registering(world: World, dice: Random) -> AsyncIterator[None]:
    """Restart the kubelet, and restart it again during a registration."""
    del dice
    await world.kubelet.stop()
    world.kubelet.dies_registering = True
    await world.kubelet.start()
    world.happens()
    await world.until(lambda: not world.kubelet.dies_registering, "registration")
    yield


@fault("plugin folder recreated", "kubelet", promise=LOOK, weight=2)
async def folder_recreated(world: World, dice: Random) -> AsyncIterator[None]:
    """Delete the plugin folder while the kubelet is down; its start creates a new one."""
    await world.kubelet.stop()
    # Rename it first: a worker may create its socket again while the folder is being emptied.
    shutil.rmtree((world.folder / "kubelet").rename(world.folder / "kubelet-before"))
    await asyncio.sleep(dice.choice((0.0, 0.5, 1.5)))
    await world.kubelet.start()
    world.happens()
    yield


def chosen(world: World, dice: Random) -> tuple[str, Path]:
    """Return a random resource that is served, and its worker's socket."""
    names = [name for name in RESOURCES if name in world.kubelet.resources]
    resource = dice.choice(names)
    return resource, world.folder / "kubelet" / world.kubelet.resources[resource].endpoint


def aside(world: World) -> Path:
    """Return a path for a file that will replace a worker's socket in one step.

    With two steps, the worker might create its socket again in between.
    """
    return world.folder / "aside"


async def registered_again(world: World, resource: str, before: object) -> None:
    """Wait until a resource is registered again, after the registration *before*."""
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
    """Replace a worker's socket with a plain file."""
    resource, path = chosen(world, dice)
    before = world.kubelet.resources[resource]
    aside(world).write_text("not a socket")
    aside(world).replace(path)
    world.happens()
    await registered_again(world, resource, before)
    yield


@fault("own socket is dead", "kubelet", promise=LOOK, weight=2)
async def socket_is_dead(world: World, dice: Random) -> AsyncIterator[None]:
    """Replace a worker's socket with a socket on which no process listens."""
    resource, path = chosen(world, dice)
    before = world.kubelet.resources[resource]
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(aside(world)))
    aside(world).replace(path)
    world.happens()
    await registered_again(world, resource, before)
    yield


@fault("own socket taken over", "kubelet", promise=LOOK, back=LOOK + 2.0, weight=2)
async def socket_is_anothers(world: World, dice: Random) -> AsyncIterator[None]:
    """Let another process listen on a worker's path: the worker must wait until it ends."""
    resource, path = chosen(world, dice)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(aside(world)))
        end.listen(64)
        aside(world).replace(path)
        world.happens()
        world.blocked[resource] += 1
        await world.until(
            lambda: not world.kubelet.resources[resource].connected, "end of the worker's stream"
        )
        yield
        path.unlink(missing_ok=True)  # before that process ends
    world.blocked[resource] -= 1
