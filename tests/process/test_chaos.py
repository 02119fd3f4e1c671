"""A short run of the chaos runner, so that every change meets every kind of fault once."""

import asyncio
from pathlib import Path

import pytest

from tests.chaos.kinds import KINDS
from tests.chaos.runner import Results, run
from tests.chaos.schedule import schedule

SEED = 20
FAULTS = 60
PARTS = 6
"""Worlds among which the faults are dealt out, as each spends most of its time waiting."""
NOISE = 20.0
"""Bounds are judged by runs on a machine of their own; here only whether all becomes well."""

STEPS = schedule(KINDS, SEED, FAULTS)


def test_sixty_faults_are_of_each_kind() -> None:
    """The parts together have sixty faults, one of each kind among them."""
    names = [name for part in range(PARTS) for step in STEPS[part::PARTS] for name in step.names]
    assert len(names) >= FAULTS
    assert set(names) == set(KINDS)


@pytest.mark.parametrize("part", range(PARTS))
def test_sixty_faults(folder: Path, part: int) -> None:
    """After each of a part of the sixty faults, all is as it has to be."""
    steps, results = STEPS[part::PARTS], Results()
    asyncio.run(run(folder, SEED + part, steps, NOISE, results))

    assert results.happened == sum(len(step.names) for step in steps)
    assert results.admitted
