"""Faults of the disk and of the service's folders."""

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
from tests.chaos.stage import CHILDREN
from tests.chaos.world import World
from tests.fakes.toolkit import NAME

REJOIN = 2.0
"""Seconds until the service has created its sockets again and all processes are connected."""


def limit_files(world: World, size: int) -> None:
    """Let no process of the service write beyond *size* bytes of a file, as on a full disk."""
    for pid in (world.running.process.pid, *world.running.pids().values()):
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


@fault("disk full", "files", promise=LOOKED, back=BACK, weight=3)
async def disk_full(world: World, dice: Random) -> AsyncIterator[None]:
    """Let every write to a file fail while a GPU breaks; the GPU must still become Unhealthy."""
    limit_files(world, 0)
    place = place_of(world, dice)
    breaks(world, place, lambda: world.running.node.xid(place, 79))
    yield
    await mend(world, place)
    limit_files(world, resource.RLIM_INFINITY)


@fault("state folder unusable", "files", promise=LOOKED, back=BACK, weight=3)
async def state_folder_unusable(world: World, dice: Random) -> AsyncIterator[None]:
    """Replace the state folder with a plain file while a GPU breaks."""
    state = world.folder / "state"
    put_a_file_in_place_of(state)
    place = place_of(world, dice)
    breaks(world, place, lambda: world.running.node.xid(place, 79))
    yield
    await mend(world, place)
    state.unlink()
    state.mkdir(exist_ok=True)  # the service may have created it already
    # A monitor that is killed before it has written the file again has nothing to remember.
    await world.until((state / "health.json").exists, "file of the saved health")


@fault("CDI tool fails", "files", promise=2.0, back=6.0)
async def cdi_tool_fails(world: World, dice: Random) -> AsyncIterator[None]:
    """Delete the CDI specification while nvidia-ctk fails: no container could start."""
    world.host.change_tool(does=dice.choice(("fail", "garbage", "nothing")))
    (world.host.specs / NAME).unlink()
    world.named = False
    world.happens()
    yield
    world.host.change_tool()
    world.named = True
    world.happens()


def put_a_file_in_place_of(folder: Path) -> None:
    """Replace a folder with a plain file; the service may create the folder again meanwhile.

    A hard link is created only if nothing is there, so it fails if the service was faster.
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
    """Delete a socket of the runtime folder, as cleaners of /run do, then restart a process that
    uses it.
    """
    path = world.folder / dice.choice(("health.ipc", "telemetry.ipc", "control.sock"))
    path.unlink(missing_ok=True)
    await asyncio.sleep(dice.choice((0.0, 1.5)))
    victim = dice.choice(CHILDREN)
    await world.replaced(victim, await world.strike(victim, signal.SIGKILL))
    await world.until(path.exists, path.name)
    yield
