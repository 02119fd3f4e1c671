"""`scripts/bench --compare`: what changed between two reports beyond noise, in words."""

import random
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.compare import change, parts, words
from tests.bench.report import Report, ReportError, read


def report(load: float = 0.1, machine: str = "here", **figures: list[float]) -> Report:
    """Return a report with these *figures*."""
    return Report(machine, load, figures)


def around(middle: float, count: int = 100) -> list[float]:
    """Return *count* values that differ from *middle* by up to a tenth, always the same."""
    draw = random.Random(1)  # noqa: S311 - no secret
    return [middle * draw.uniform(0.9, 1.1) for _ in range(count)]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (around(1.0), around(1.02), 0.0),  # small
        (around(1.0), around(1.5), 0.5),
        (around(2.0), around(1.0), -0.5),
        ([1.0, 9.0] * 50, [5.0] * 100, 0.0),  # the parts of the old values are at 5 too
        (around(1.0, 50) + around(2.0, 50), around(1.8), 0.0),  # one half was disturbed
        ([10.0, 11.0], [10.9, 12.0], 0.0),  # not apart
        ([10.0, 10.1], [11.0, 11.1], 0.0),  # apart, but too few for a tenth
        ([10.0], [12.0], 0.2),
        ([0.0], [0.0], 0.0),
    ],
)
def test_only_what_is_apart_has_changed(
    old: list[float], new: list[float], expected: float
) -> None:
    """A change is told if all parts of the values are on one side, and if it is large enough."""
    assert change(old, new) == pytest.approx(expected, abs=0.02)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60))
def test_a_report_does_not_differ_from_itself(values: list[float]) -> None:
    """The same values are never a change; there are ten parts at most, none outside the values."""
    assert change(values, values) == 0.0
    assert len(parts(values)) == min(10, len(values))
    assert all(min(values) <= part <= max(values) for part in parts(values))


def test_the_words_tell_the_worst_first() -> None:
    """A line for each change, the worst first; then budgets; the rest is one line."""
    old = report(allocate=[1.0] * 10, start=[300.0] * 10, kubelet=[5.0] * 10, worker=[1.0])
    new = report(allocate=[0.5] * 10, start=[200.0] * 10, kubelet=[20.0] * 10, xid=[1.0])
    assert [line.split(" (")[0] for line in words(old, new)] == [
        "worse: kubelet listening to resource listed: median 20.00 instead of 5.00",
        "better: start to listed: median 200.00 instead of 300.00",
        "better: Allocate: median 0.50 instead of 1.00",
        "misses its budget now: kubelet listening to resource listed: median 1.67 x",
        "meets its budget now: start to listed",
        "only in the old report: worker killed to listed again",
        "only in the new report: Xid delivered to list received",
    ]


def test_noise_is_one_line() -> None:
    """What did not change is named in one line, and nothing else is told."""
    same = report(start=around(100.0), kubelet=around(5.0))
    title = "kubelet listening to resource listed; start to listed"
    assert [*words(same, same)] == [f"no change beyond noise: {title}"]


def test_reports_that_cannot_be_compared_say_so() -> None:
    """Another machine and a busy one are told before all else, and so is a lack of rows."""
    told = [*words(report(load=4.0, xid=[1.0]), report(machine="there", start=[1.0]))]
    assert told[0] == "not the same machine: here before, there now"
    assert told[1].startswith("the machine was busy: load 4.0 before, 0.1 now.")
    assert told[-1] == "nothing to compare: no row is in both reports"


def test_a_report_is_read_again_or_refused(tmp_path: Path) -> None:
    """A written report is read as it was; a file that is missing or is no report is named."""
    path = tmp_path / "report.json"
    with pytest.raises(ReportError, match=r"cannot read the report .*report.json: No such file"):
        read(path)
    path.write_text("{}")
    with pytest.raises(ReportError, match=r"report.json: .*machine.*; write one with --json"):
        read(path)
    path.write_bytes(msgspec.json.encode(report(xid=[1.0])))
    assert read(path) == report(xid=[1.0])
