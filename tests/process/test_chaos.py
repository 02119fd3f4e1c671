"""A short chaos run, so that every change is tested with every kind of fault."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.kinds import KINDS
from tests.chaos.runner import Results, run
from tests.chaos.schedule import Step, schedule

SEED = 20
FAULTS = 60
PARTS = 6
"""Number of parts of the run, which can run in parallel because each part mostly waits."""
NOISE = 20.0
"""Factor for the time limits: here only the result counts, not the time."""

STEPS = schedule(KINDS, SEED, FAULTS)


def test_the_sixty_faults_include_each_kind() -> None:
    """All parts together inject at least sixty faults, and each kind of fault at least once."""
    names = [name for part in range(PARTS) for step in STEPS[part::PARTS] for name in step.names]
    assert len(names) >= FAULTS
    assert set(names) == set(KINDS)


@pytest.mark.parametrize("part", range(PARTS))
def test_sixty_faults(folder: Path, part: int) -> None:
    """After each fault of one part of the run, all invariants hold again."""
    steps, results = STEPS[part::PARTS], Results()
    asyncio.run(run(folder, SEED + part, steps, NOISE, results))

    assert results.happened == sum(len(step.names) for step in steps)
    assert results.admitted


@pytest.mark.parametrize(
    "first",
    [
        pytest.param("kubelet refuses", id="a worker cannot register"),
        pytest.param("GPU removed and added", id="no monitor can be started"),
    ],
)
def test_descriptors_are_used_up_during_another_fault(folder: Path, first: str) -> None:
    """The runner demands nothing that is impossible until the descriptors are free again."""
    results, step = Results(), Step(1, (first, "descriptors used up"), seed="0")
    asyncio.run(run(folder, SEED, [step], NOISE, results))

    assert results.happened == len(step.names)
