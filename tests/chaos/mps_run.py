"""Run a schedule of faults of MPS, and check the invariants after each."""

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from tests.chaos.mps_world import MpsViolationError, MpsWorld, mps_world
from tests.chaos.of_mps import MPS_KINDS
from tests.chaos.world import dump

SETTLE = 5.0
"""Seconds until everything is as before a fault."""

Times = dict[tuple[str, str], list[float]]
"""Measured seconds, by kind of fault and what was measured."""


def mps_schedule(seed: int, faults: int) -> Sequence[str]:
    """Return the kinds of the faults: first each kind once, then random ones by weight."""
    dice = Random(seed)  # noqa: S311 - reproducible, not secret
    names: list[str] = []
    while len(names) < faults:
        once = not names
        deck = [k.name for k in MPS_KINDS.values() for _ in range(1 if once else k.weight)]
        dice.shuffle(deck)
        names += deck
    return names[:faults]


async def mps_run(names: Sequence[str], seed: int, noise: float, times: Times) -> None:
    """Inject these faults one after the other; add the measured times to *times*.

    Raises MpsViolationError when an invariant does not hold.
    """
    async with mps_world(noise) as world:
        try:
            for number, name in enumerate(names, 1):
                await _step(world, name, f"{seed}/{number}", times)
                print(f"{number}: {name}", file=sys.stderr)  # noqa: T201
            await world.finish()
        except (MpsViolationError, AssertionError, TimeoutError) as error:
            raise MpsViolationError(f"fault {number}, {name}: {error}; {_logs(world)}") from error


async def _step(world: MpsWorld, name: str, seed: str, times: Times) -> None:
    world.times = {}
    await MPS_KINDS[name].story(world, Random(seed))  # noqa: S311 - reproducible, not secret
    await world.within(SETTLE, world.settled, "device that is Healthy")
    world.recovered()
    await world.employ()
    world.check()
    for what, took in world.times.items():
        times.setdefault((name, what), []).extend(took)


def _logs(world: MpsWorld) -> str:
    found = []
    for running in (world.plugin, world.tree):
        with tempfile.NamedTemporaryFile("w", prefix="chaos-", suffix=".log", delete=False) as log:
            log.write(dump(running.entries))
        found.append(str(Path(log.name)))
    return f"the logs are in {' and '.join(found)}"


def mps_table(times: Times) -> str:
    """Return the measured times as a Markdown table, in milliseconds."""
    lines = ["| fault | count | what | median, worst (ms) |", "|---|---|---|---|"]
    for (name, what), took in sorted(times.items()):
        median, worst = statistics.median(took) * 1000, max(took) * 1000
        lines.append(f"| {name} | {len(took)} | {what} | {median:.0f}, {worst:.0f} |")
    return "\n".join(lines)
