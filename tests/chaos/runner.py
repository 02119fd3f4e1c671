"""Run a schedule of faults, and check the invariants after each."""

import asyncio
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos import (  # noqa: F401 - each adds its kinds
    of_answers,
    of_clients,
    of_devices,
    of_files,
    of_kubelet,
    of_one_gpu,
    of_operators,
    of_processes,
)
from tests.chaos.invariants import Size, allocations, bad_lines, sizes, swollen, unsettled
from tests.chaos.kinds import KINDS, Kind
from tests.chaos.schedule import Step
from tests.chaos.world import World, dump, world

SPARE = 1.0
"""Seconds that a busy machine may need beyond each time limit."""

PROBES = 5.0
"""Seconds, times the noise, until /readyz answers 200 and every process is back to its size."""

SHORTEST, LONGEST = 0.002, 0.03
"""Seconds between two looks at the invariants: a long wait must not keep a core busy."""

KEPT = 10
"""Number of the last steps that a failure shows."""


class ViolationError(Exception):
    """An invariant does not hold; the message says which, and after which faults."""


@dataclass(slots=True)
class Results:
    """Seconds until all invariants held, by kind of fault: after the fault and after its repair."""

    faults: dict[str, list[float]] = field(default_factory=dict)
    repairs: dict[str, list[float]] = field(default_factory=dict)
    happened: int = 0
    """Faults, including pairs; the times of a pair are not recorded, as its faults share them."""
    admitted: int = 0
    """Pods that were admitted."""


class Runner:
    """A run of the schedule in one world."""

    def __init__(self, made: World, noise: float, results: Results) -> None:
        self._world = made
        self._noise = noise
        self._first: dict[str, Size] = {}
        self._last: deque[str] = deque(maxlen=KEPT)
        self._results = results

    async def settle_first(self) -> None:
        """Wait until the service has started."""
        self._begin(30.0)
        await self._world.until(self._world.running.node.path.exists, "simulated node")
        await self._settled("the start")
        await self._world.running.ready()  # the exporter is the last to open files
        self._first = sizes(self._world)

    async def step(self, step: Step) -> None:
        """Inject the faults of a step, wait for the invariants, repair the faults, wait again."""
        kinds = [KINDS[name] for name in step.names]
        label = f"{step.number}: {' and '.join(step.names)}"
        self._last.append(label)
        dice = Random(step.seed)  # noqa: S311 - reproducible, not secret
        self._world.alone = len(kinds) == 1
        self._world.gpus.begin()
        begun = time.monotonic()
        try:
            stories = [kind.story(self._world, dice) for kind in kinds]
            self._begin(sum(kind.promise for kind in kinds))
            for story in stories:
                await story.__aenter__()
            took = await self._settled(label)
            self._note(self._results.faults, kinds, took)
            for kind, story in reversed(list(zip(kinds, stories, strict=True))):
                self._begin(sum(kind.back or kind.promise for kind in kinds))
                await story.__aexit__(None, None, None)
                if kind.back:  # in a pair, the first fault is still there after the second's repair
                    took = await self._settled(f"{label}, {kind.name} repaired")
                    self._note(self._results.repairs, [kind], took)
            await self._calm(label)
            print(f"{label} ({time.monotonic() - begun:.1f} s)", file=sys.stderr)  # noqa: T201
        except TimeoutError as error:
            self._fail(f"{label}: {error}")

    def _note(self, where: dict[str, list[float]], kinds: list[Kind], took: float) -> None:
        if len(kinds) == 1 and self._world.alone:  # otherwise the time cannot be attributed
            where.setdefault(kinds[0].name, []).append(took)

    def _begin(self, seconds: float) -> None:
        now = time.monotonic()
        self._world.began, self._world.deadline = now, now + seconds * self._noise + SPARE

    async def _settled(self, label: str) -> float:
        """Wait until lists and processes are as expected; return the seconds since the fault."""
        pause = SHORTEST
        while not self._bad(label) and any(unsettled(self._world)):
            took = time.monotonic() - self._world.began
            if time.monotonic() > self._world.deadline:
                left = "; ".join(unsettled(self._world))
                self._fail(f"{label}: not settled after {took:.1f} s: {left}")
            await asyncio.sleep(pause)
            pause = min(1.2 * pause, LONGEST)
        return time.monotonic() - self._world.began

    async def _calm(self, label: str) -> None:
        """Wait until the slower invariants hold: readiness, allocations, and the sizes of
        processes.
        """
        self._begin(PROBES)
        while left := self._bad(label) or await self._unquiet():
            if time.monotonic() > self._world.deadline:
                self._fail(f"{label}: {'; '.join(left)}")
            await asyncio.sleep(LONGEST)
        self._bad(label)

    async def _unquiet(self) -> list[str]:
        status, body = await self._world.running.get("/readyz")
        found = [] if status == 200 else [f"/readyz answers {status} {body.strip()}"]
        found += unsettled(self._world)
        found += swollen(self._world, self._first)
        return found or await allocations(self._world)

    def _bad(self, label: str) -> list[str]:
        """Fail if something is wrong that cannot recover; otherwise return an empty list."""
        found = [*self._world.violations, *bad_lines(self._world), *self._world.ended()]
        if found:
            newest = self._world.running.entries[-3:]
            found += [str(entry) for entry in newest]
            self._fail(f"{label}: {'; '.join(found)}")
        return []

    def _fail(self, text: str) -> None:
        with tempfile.NamedTemporaryFile("w", prefix="chaos-", suffix=".log", delete=False) as log:
            log.write(dump(self._world.running.entries))
        lines = [text, "the last faults:", *self._last, f"the service's log is in {log.name}"]
        raise ViolationError("\n".join(lines))


async def run(
    folder: Path, seed: int, steps: Sequence[Step], noise: float, results: Results
) -> None:
    """Run all *steps*, and add their times to *results*.

    Raises ViolationError when an invariant does not hold.
    """
    async with world(folder, seed) as made:
        runner = Runner(made, noise, results)
        await runner.settle_first()
        for step in steps:
            await runner.step(step)
            results.happened += len(step.names)
            results.admitted = made.admitted
