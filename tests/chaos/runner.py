"""Run a schedule of faults, and hold the service against what has to be after each."""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos import (  # noqa: F401 - each adds its kinds
    of_devices,
    of_files,
    of_kubelet,
    of_operators,
    of_processes,
)
from tests.chaos.invariants import Size, allocations, bad_lines, sizes, swollen, unsettled
from tests.chaos.kinds import KINDS, Kind
from tests.chaos.schedule import Step
from tests.chaos.world import World, dump, world

SPARE = 1.0
"""Seconds that a busy machine may take beyond every bound."""

PROBES = 5.0
"""Seconds, times the noise, until /readyz is right and nothing is held that is not needed."""

KEPT = 10
"""Steps that are shown when one fails."""


class ViolationError(Exception):
    """Something does not hold that has to; the message says what, and after which faults."""


@dataclass(slots=True)
class Results:
    """Seconds until all was as it has to be, by kind: after the fault, and after its repair."""

    faults: dict[str, list[float]] = field(default_factory=dict)
    repairs: dict[str, list[float]] = field(default_factory=dict)
    happened: int = 0
    """Faults, those that came in pairs too; of these nobody knows whose time it was."""
    admitted: int = 0
    """Pods that got what they asked for."""


class Runner:
    """One run."""

    def __init__(self, made: World, noise: float, results: Results) -> None:
        self._world = made
        self._noise = noise
        self._first: dict[str, Size] = {}
        self._last: deque[str] = deque(maxlen=KEPT)
        self._results = results

    async def settle_first(self) -> None:
        """Wait until the service has begun."""
        self._begin(30.0)
        await self._world.until(self._world.running.node.path.exists, "simulated node")
        await self._settled("the start")
        await self._world.running.ready()  # the exporter opens what it needs beside the others
        self._first = sizes(self._world)

    async def step(self, step: Step) -> None:
        """Let the faults of a step happen, wait until all is well, repair them, wait again."""
        kinds = [KINDS[name] for name in step.names]
        label = f"{step.number}: {' and '.join(step.names)}"
        self._last.append(label)
        dice = Random(step.seed)  # noqa: S311 - reproducible, not secret
        self._world.alone = len(kinds) == 1
        begun = time.monotonic()
        try:
            stack = contextlib.AsyncExitStack()
            self._begin(sum(kind.promise for kind in kinds))
            for kind in kinds:
                await stack.enter_async_context(kind.story(self._world, dice))
            took = await self._settled(label)
            self._note(self._results.faults, kinds, took)
            self._begin(sum(kind.back or kind.promise for kind in kinds))
            await stack.aclose()
            if any(kind.back for kind in kinds):
                took = await self._settled(f"{label}, repaired")
                self._note(self._results.repairs, [k for k in kinds if k.back], took)
            await self._calm(label)
            print(f"{label} ({time.monotonic() - begun:.1f} s)", file=sys.stderr)  # noqa: T201
        except TimeoutError as error:
            self._fail(f"{label}: {error}")

    def _note(self, where: dict[str, list[float]], kinds: list[Kind], took: float) -> None:
        if len(kinds) == 1 and self._world.alone:  # else nobody knows whose time it was
            where.setdefault(kinds[0].name, []).append(took)

    def _begin(self, seconds: float) -> None:
        now = time.monotonic()
        self._world.began, self._world.deadline = now, now + seconds * self._noise + SPARE

    async def _settled(self, label: str) -> float:
        """Wait until the kubelet's view is the truth; return the seconds since the fault."""
        while left := self._bad(label) or list(unsettled(self._world)):
            if time.monotonic() > self._world.deadline:
                took = time.monotonic() - self._world.began
                self._fail(f"{label}: after {took:.1f} s still: {'; '.join(left)}")
            await asyncio.sleep(0.002)
        return time.monotonic() - self._world.began

    async def _calm(self, label: str) -> None:
        """Check what takes a little longer: readiness, allocations, and that nothing is leaked."""
        self._begin(PROBES)
        while left := self._bad(label) or await self._unquiet():
            if time.monotonic() > self._world.deadline:
                self._fail(f"{label}: {'; '.join(left)}")
            await asyncio.sleep(0.02)
        self._bad(label)

    async def _unquiet(self) -> list[str]:
        status, body = await self._world.running.get("/readyz")
        found = [] if status == 200 else [f"/readyz answers {status} {body.strip()}"]
        found += unsettled(self._world)
        found += swollen(self._world, self._first)
        return found or await allocations(self._world)

    def _bad(self, label: str) -> list[str]:
        """Fail where something is wrong that time will not mend; else return that nothing is."""
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
    """Let the faults of all *steps* happen, and add to the *results* as it goes on.

    ViolationError when something does not hold.
    """
    async with world(folder, seed) as made:
        runner = Runner(made, noise, results)
        await runner.settle_first()
        for step in steps:
            await runner.step(step)
            results.happened += len(step.names)
            results.admitted = made.admitted
