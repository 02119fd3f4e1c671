"""What a metric is, and what one of its series is at a scrape."""

from dataclasses import dataclass
from typing import NamedTuple

PREFIX = "gpu_sharing_"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric; its name is without the prefix that all metrics have."""

    name: str
    labels: tuple[str, ...]
    help: str
    kind: str = "gauge"

    @property
    def full_name(self) -> str:
        """The name in queries."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


class Sample(NamedTuple):
    """One series at the time of the scrape; *name* is the metric's name without prefix."""

    name: str
    value: float
    """For a summary or histogram: the sum."""
    labels: tuple[str, ...] = ()
    observations: int = 0
    """For a summary: how many observations."""
    buckets: tuple[int, ...] = ()
    """For a histogram: cumulative counts by RPC_BUCKETS; the last one is the total."""
