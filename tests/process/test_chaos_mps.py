"""A short chaos run with MPS, so that every change is tested with every kind of fault."""

import asyncio

import pytest

from tests.chaos.mps_run import Times, mps_run, mps_schedule
from tests.chaos.of_mps import MPS_KINDS

SEED = 18
PARTS = 2
"""Number of parts of the run, which can run in parallel."""
NOISE = 20.0
"""Factor for the time limits: here only the result counts, not the time."""

NAMES = mps_schedule(SEED, len(MPS_KINDS))


def test_the_faults_include_each_kind() -> None:
    """All parts together inject each kind of fault of MPS."""
    assert {name for part in range(PARTS) for name in NAMES[part::PARTS]} == set(MPS_KINDS)


@pytest.mark.parametrize("part", range(PARTS))
def test_each_fault_of_mps(part: int) -> None:
    """After each fault all invariants hold again, and nothing is left behind at the end."""
    times: Times = {}
    asyncio.run(mps_run(NAMES[part::PARTS], SEED, NOISE, times))

    assert {name for name, _ in times} == {*NAMES[part::PARTS]} - {"equal settings read again"}
