"""HTTP clients that behave badly while something else may break."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from random import Random

from tests.chaos.kinds import fault
from tests.chaos.world import World
from tests.fakes.bad_clients import PLAIN
from tests.fakes.crowd import crowded


@fault("flood of HTTP clients", "http", promise=2.0, back=1.0, weight=3)
async def flood(world: World, dice: Random) -> AsyncIterator[None]:
    """Let many clients come that all behave badly in one way; a probe is answered meanwhile."""
    await world.until((world.folder / "exporter.url").exists, "URL of the exporter")
    host, _, port = world.running.url().removeprefix("http://").partition(":")
    behaviour, count = dice.choice(PLAIN), dice.choice((20, 100, 250))
    async with crowded((host, int(port)), behaviour.__name__, count) as process:
        world.strangers.add(process)
        world.happens()
        while not await asyncio.to_thread(is_live, f"http://{host}:{port}/livez"):
            await world.patience(f"/livez that answers beside {count} {behaviour.__name__}")
        yield
    world.strangers.discard(process)
    world.happens()


def is_live(url: str) -> bool:
    """Return whether a probe is answered with 200 in the second that a kubelet waits for it."""
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:  # noqa: S310 - our own http
            return int(answer.status) == 200
    except OSError:
        return False
