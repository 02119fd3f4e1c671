"""How soon devices are listed that are shared by MPS, with a stand-in for NVIDIA's daemon."""

from tests.bench.rows import Figures
from tests.fakes.mps_start import measure


def of_starts(starts: int) -> Figures:
    """Measure the time from the start of both service trees until all replicas are Healthy."""
    found = [measure() for _ in range(starts)]
    return {
        "mps-start": [start.wall for start in found],
        "mps-start-processor": [start.processor for start in found],
    }
