"""A short run of the chaos runner, so that every change meets every kind of fault once."""

import asyncio
from pathlib import Path

from tests.chaos.kinds import KINDS
from tests.chaos.runner import Results, run
from tests.chaos.schedule import schedule

SEED = 20
FAULTS = 60
NOISE = 20.0
"""Bounds are judged by runs on a machine of their own; here only whether all becomes well."""


def test_sixty_faults(folder: Path) -> None:
    """After each of sixty faults, one of each kind among them, all is as it has to be."""
    steps = schedule(KINDS, SEED, FAULTS)
    assert {name for step in steps for name in step.names} == set(KINDS)
    results = Results()
    asyncio.run(run(folder, SEED, steps, NOISE, results))

    assert results.happened >= FAULTS
    assert results.admitted
