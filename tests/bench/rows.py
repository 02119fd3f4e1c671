"""The measured rows and their budgets."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Figures = dict[str, list[float]]
"""The measured values, by the row's key."""


def p99(values: Sequence[float]) -> float:
    """Return the value that 99 % of *values* do not exceed; with fewer than 100, the maximum."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


STATISTICS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "median": median,
    "p99": p99,
    "worst": max,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One measured quantity, in milliseconds unless its title says otherwise."""

    key: str
    title: str
    budget: Mapping[str, float] = field(default_factory=dict)
    """The highest allowed value, by statistic."""
    against: str = ""
    """Key of the row of whose median the budget is a multiple; empty: the budget is a value."""

    def missed(self, figures: Figures) -> str:
        """Return by how much the values in *figures* exceed the budget; empty if they do not."""
        values = figures[self.key]
        unit = median(figures[self.against]) if self.against else 1.0
        most = {name: allowed * unit for name, allowed in self.budget.items()}
        found = {name: STATISTICS[name](values) for name in most}
        over = [name for name in most if found[name] > most[name]]
        return ", ".join(f"{name} {found[name] / most[name]:.2f} x" for name in over)


ROWS = (
    Row("empty", "an empty call, for comparison"),
    Row("admission", "pod admission: preferred 4 of 8 GPUs, and Allocate", {"median": 1.5}),
    Row("preferred-1", "preferred 1 of 8 GPUs, for comparison"),
    Row("allocate", "Allocate", {"median": 1.15}, against="preferred-1"),
    Row("burst", "Allocate, 200 within a second", {"p99": 3}),
    Row("preferred-8000", "preferred 8 of 8 x 1000 replicas", {"median": 8}),
    Row("preferred-cold", "preferred 8 of 16 whole GPUs, never asked before", {"median": 30}),
    Row("preferred-cached", "preferred 8 of 16 whole GPUs, asked before", {"median": 1}),
    Row("xid", "Xid delivered to list received", {"median": 1.5, "p99": 5}),
    Row("kubelet", "kubelet listening to resource listed", {"median": 12, "worst": 100}),
    Row("start", "start to listed", {"median": 250}),
    Row("worker", "worker killed to listed again", {"median": 60}),
    Row("large-change", "8 x 8000 devices: health change to list received", {"median": 250}),
    Row("large-stall", "8 x 8000 devices: longest Allocate meanwhile", {"worst": 20}),
    Row("mps-start", "start of `run` and `mps` to the devices of MPS listed", {"median": 2000}),
    Row("mps-start-processor", "processor time of such a start"),
    Row("memory-fresh", "memory of all processes, one resource, fresh (MiB)"),
    Row("memory", "memory of all processes, one resource, after load (MiB)", {"median": 65}),
    Row("memory-more", "memory of each further resource, after load (MiB)", {"median": 8}),
    Row("idle", "processor time of all processes when idle (% of a core)", {"median": 0.3}),
    Row("usage", "sampling 8 GPUs with 50 processes each (% of a core)", {"median": 1}),
    Row("usage-scrape", "a scrape with 8 GPUs and 50 processes in pods on each", {"median": 25}),
    Row("usage-scrape-cpu", "processor time of such a scrape", {"median": 25}),
    Row("usage-memory", "memory of the exporter for these processes (MiB)", {"median": 3}),
    Row("usage-idle", "processor time of the exporter for them (% of a core)"),
)
