"""Faults of the disk and of our own folders."""

import asyncio
import contextlib
import resource
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

from tests.chaos.kinds import fault
from tests.chaos.of_devices import BACK, LOOKED, breaks, mend, place_of
from tests.chaos.world import CHILDREN, World

REJOIN = 2.0
"""Seconds until our own sockets are made anew and everybody has joined again."""


def limit_files(world: World, size: int) -> None:
    """Let no process of the service write to a file beyond *size* bytes, as on a full disk."""
    for pid in (world.running.process.pid, *world.running.pids().values()):
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


@fault("disk full", "files", promise=LOOKED, back=BACK, weight=3)
async def disk_full(world: World, dice: Random) -> AsyncIterator[None]:
    """Let every write to a file fail while a GPU breaks, which is told all the same."""
    limit_files(world, 0)
    place = place_of(dice)
    breaks(world, place, lambda: world.running.node.xid(place, 79))
    yield
    await mend(world, place)
    limit_files(world, resource.RLIM_INFINITY)


@fault("state folder unusable", "files", promise=LOOKED, back=BACK, weight=3)
async def state_folder_unusable(world: World, dice: Random) -> AsyncIterator[None]:
    """Put a plain file in the place of the state folder while a GPU breaks."""
    state = world.folder / "state"
    put_a_file_in_place_of(state)
    place = place_of(dice)
    breaks(world, place, lambda: world.running.node.xid(place, 79))
    yield
    await mend(world, place)
    state.unlink()
    state.mkdir(exist_ok=True)  # the service may have been faster


def put_a_file_in_place_of(folder: Path) -> None:
    """Remove a folder and have a plain file there; the service may make the folder anew meanwhile.

    A link is made only where nothing is, so whichever of the two comes first is seen.
    """
    file = folder.with_name("not-a-folder")
    file.write_text("not a folder")
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(FileExistsError):
            folder.hardlink_to(file)
            file.unlink()
            return


@fault("runtime socket deleted", "files", promise=REJOIN, weight=3)
async def runtime_socket_deleted(world: World, dice: Random) -> AsyncIterator[None]:
    """Delete a socket of the runtime folder, as cleaners of /run do; then somebody has to join."""
    path = world.folder / dice.choice(("health.ipc", "telemetry.ipc", "control.sock"))
    path.unlink(missing_ok=True)
    await asyncio.sleep(dice.choice((0.0, 1.5)))
    victim = dice.choice(CHILDREN)
    await world.replaced(victim, await world.strike(victim, signal.SIGKILL))
    await world.until(path.exists, path.name)
    yield
