"""Tell in words what changed between two reports, and what is only noise."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from tests.bench.report import Report
from tests.bench.rows import ROWS, Row

PARTS = 10
"""The values are cut into so many parts, in the order in which they were measured: the medians of
the parts differ as much as the machine's other load lets them."""

FEW = 5
"""With fewer parts than that, chance alone may keep them apart, so a change must be larger."""

LEAST, LEAST_OF_FEW = 0.05, 0.15
"""The smallest change that is told, as a fraction of the old median."""

BUSY = 1.0
"""The load average from which a measurement is told to be disturbed."""


def parts(values: Sequence[float]) -> list[float]:
    """Return the medians of the parts of *values*; with few values, these themselves."""
    count = min(PARTS, len(values))
    ends = [len(values) * place // count for place in range(count + 1)]
    return [median(values[a:b]) for a, b in pairwise(ends)]


def change(old: Sequence[float], new: Sequence[float]) -> float:
    """Return by which fraction the median has changed; 0 if that may be noise.

    A change is one if every part of the new values is on the same side of every part of the old.
    """
    before, after = median(old), median(new)
    olds, news = parts(old), parts(new)
    apart = max(olds) < min(news) or max(news) < min(olds)
    least = LEAST if min(len(olds), len(news)) >= FEW else LEAST_OF_FEW
    if not apart or abs(after - before) < least * abs(before):
        return 0.0
    return (after - before) / before if before else float("inf")


def words(old: Report, new: Report) -> Iterator[str]:
    """Yield lines that tell what is better and worse in *new* than in *old*."""
    yield from _warnings(old, new)
    both = [row for row in ROWS if old.figures.get(row.key) and new.figures.get(row.key)]
    changes = {row.key: change(old.figures[row.key], new.figures[row.key]) for row in both}
    changed = [row for row in both if changes[row.key]]
    for row in sorted(changed, key=lambda row: changes[row.key], reverse=True):
        yield _line(row, old, new, changes[row.key])
    yield from _budgets(both, old, new)
    if same := [row.title for row in both if not changes[row.key]]:
        yield f"no change beyond noise: {'; '.join(same)}"
    for report, name in ((old, "old"), (new, "new")):
        if alone := [r.title for r in ROWS if r not in both and report.figures.get(r.key)]:
            yield f"only in the {name} report: {'; '.join(alone)}"
    if not both:
        yield "nothing to compare: no row is in both reports"


def _warnings(old: Report, new: Report) -> Iterator[str]:
    if old.machine != new.machine:
        yield f"not the same machine: {old.machine} before, {new.machine} now"
    if max(old.load, new.load) >= BUSY:
        yield (
            f"the machine was busy: load {old.load:.1f} before, {new.load:.1f} now. Measure old "
            "and new again in turns before you believe a small change"
        )


def _line(row: Row, old: Report, new: Report, changed: float) -> str:
    before, after = median(old.figures[row.key]), median(new.figures[row.key])
    verdict = "worse" if changed > 0 else "better"
    by = f"{abs(changed):.0%} {'more' if changed > 0 else 'less'}" if before else "more"
    return f"{verdict}: {row.title}: median {after:.2f} instead of {before:.2f} ({by})"


def _budgets(both: Sequence[Row], old: Report, new: Report) -> Iterator[str]:
    for row in both:
        if not all(row.against in ("", *report.figures) for report in (old, new)):
            continue
        before, after = row.missed(old.figures), row.missed(new.figures)
        if after and not before:
            yield f"misses its budget now: {row.title}: {after}"
        elif before and not after:
            yield f"meets its budget now: {row.title}"
