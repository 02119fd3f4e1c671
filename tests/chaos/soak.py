"""Run months' worth of operations in minutes, and check that no process grows."""

import argparse
import asyncio
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.chaos.invariants import Size, sizes, unsettled
from tests.chaos.of_devices import breaks, vouch
from tests.chaos.stage import configuration
from tests.chaos.world import World, said, world
from tests.fakes.service import short_folder

ROUND = 25
"""Operations between two measurements of the processes."""

WARM = 0.25
"""The first part of the run, in which caches and allocators still grow."""

KIB_PER_1000, EACH_PER_1000 = 1024.0, 4.0
"""Growth per 1000 operations that does not count as a leak: KiB, and descriptors or threads."""

PATIENCE = 60.0

Sample = tuple[int, dict[str, Size]]


class Soak:
    """A soak run."""

    def __init__(self, made: World, seed: int) -> None:
        self._world = made
        self._dice = Random(seed)  # noqa: S311 - reproducible, not secret
        self.operations = 0
        self.samples: list[Sample] = []

    async def run(self, seconds: float) -> None:
        """Run operations for *seconds*; raises TimeoutError when one of them does not finish."""
        await self._world.until(self._world.running.node.path.exists, "simulated node")
        await self._settled()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(ROUND):
                await self._operate()
                self.operations += 1
            self.samples.append((self.operations, sizes(self._world)))
            self._world.running.entries.clear()  # they are kept by this process, not by the service

    async def _operate(self) -> None:
        work = (
            self._health,
            self._health,
            self._health,
            self._scrape,
            self._register,
            self._reload,
        )
        await self._dice.choice(work)()

    async def _settled(self) -> None:
        self._world.began = time.monotonic()
        self._world.deadline = self._world.began + PATIENCE
        await self._world.until(lambda: not list(unsettled(self._world)), "expected lists")

    async def _health(self) -> None:
        running, place = self._world.running, self._dice.randrange(8)
        node, seen = running.node, len(running.entries)
        uuid = breaks(self._world, place, lambda: node.xid(place, 79))
        await self._settled()
        # A check may have found the fault before its Xid; an Xid after the reset would be a new
        # fault.
        await self._world.until(
            lambda: said(running.entries[seen:], "the driver reported a fatal Xid", uuid=uuid),
            "log line about the Xid",
        )
        node.reset(place)
        await vouch(self._world, uuid)
        await self._settled()

    async def _scrape(self) -> None:
        for path in ("/metrics", "/status", "/", "/readyz"):
            await self._world.running.get(path)

    async def _register(self) -> None:
        await self._world.kubelet.stop()
        await self._world.kubelet.start()
        await self._settled()

    async def _reload(self) -> None:
        self._world.replicas = 5 - self._world.replicas
        self._world.configure(configuration(self._world.replicas))
        self._world.running.process.send_signal(signal.SIGHUP)
        await self._settled()


def growth(samples: Sequence[Sample]) -> dict[str, tuple[float, float, float]]:
    """Return the growth of each process per 1000 operations: KiB, descriptors, threads."""
    warm = samples[int(len(samples) * WARM) :]
    names = set.intersection(*(set(found) for _, found in warm))
    return {
        name: (
            _slope([(done, found[name].rss) for done, found in warm]),
            _slope([(done, found[name].descriptors) for done, found in warm]),
            _slope([(done, found[name].threads) for done, found in warm]),
        )
        for name in sorted(names)
    }


def _slope(points: Sequence[tuple[int, int]]) -> float:
    done, held = zip(*points, strict=True)
    return 1000 * statistics.linear_regression(done, held).slope


async def soak(folder: Path, seed: int, seconds: float) -> Soak:
    """Run a soak in *folder*."""
    async with world(folder, seed) as made:
        made.deadline = time.monotonic() + PATIENCE
        soaked = Soak(made, seed)
        await soaked.run(seconds)
        return soaked


def main() -> int:
    """Run, print the growth of each process, and return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides which operations happen")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to run")
    given = parser.parse_args()
    try:
        with short_folder() as folder:
            soaked = asyncio.run(soak(folder, given.seed, given.minutes * 60))
    except KeyboardInterrupt:
        return 130
    print("| process | KiB | descriptors | threads |\n|---|---|---|---|")  # noqa: T201
    leaks = False
    for name, (memory, descriptors, threads) in growth(soaked.samples).items():
        leaks |= memory > KIB_PER_1000 or max(descriptors, threads) > EACH_PER_1000
        print(f"| {name} | {memory:+.0f} | {descriptors:+.2f} | {threads:+.2f} |")  # noqa: T201
    print(f"\ngrowth per 1000 operations; {soaked.operations} operations, seed {given.seed}")  # noqa: T201
    return int(leaks)


if __name__ == "__main__":
    sys.exit(main())
