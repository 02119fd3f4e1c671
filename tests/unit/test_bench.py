"""`scripts/bench`: statistics, comparison with budgets, table and pictures."""

from xml.etree import ElementTree as ET

import pytest

from tests.bench.picture import Curve, Picture, draw
from tests.bench.report import Report, table
from tests.bench.rows import ROWS, Row, p99

BUDGET = Row("key", "title", {"median": 2, "worst": 10})
MULTIPLE = Row("key", "title", {"median": 2}, against="other")


def test_p99_of_few_is_the_worst() -> None:
    """The p99 of a hundred values is the second highest; of three, the highest."""
    assert p99([*range(1, 101)]) == 99
    assert p99([3, 1, 2]) == 3


@pytest.mark.parametrize(
    ("values", "missed"),
    [([1, 2, 9], ""), ([3, 3, 3], "median 1.50 x"), ([4, 4, 20], "median 2.00 x, worst 2.00 x")],
)
def test_a_row_names_the_budgets_that_it_exceeds(values: list[float], missed: str) -> None:
    """A row names each statistic that exceeds its budget, and the factor."""
    assert BUDGET.missed({"key": values}) == missed


@pytest.mark.parametrize(("value", "missed"), [(6.0, ""), (9.0, "median 1.50 x")])
def test_a_budget_may_be_a_multiple_of_another_row(value: float, missed: str) -> None:
    """A budget against another row is a multiple of that row's median."""
    assert MULTIPLE.missed({"key": [value], "other": [1.0, 3.0, 8.0]}) == missed


def test_the_table_shows_all_that_was_measured() -> None:
    """The table has a line per measured row, with the other plugin's and the earlier median."""
    figures = {row.key: [1.0, 2.0, 3.0] for row in ROWS}
    earlier = Report("here", 0.1, {"xid": [7.25]})
    lines = [*table(Report("here", 0.1, figures, other={"xid": [4.5]}), earlier)]
    assert len(lines) == len(ROWS) + 2
    (xid,) = [line for line in lines if line.startswith("| Xid")]
    assert xid.endswith(
        "| 3 | 2.00 | 3.00 | 3.00 | median 1.5, p99 5 | median 1.33 x | 4.50 | 7.25 |"
    )


@pytest.mark.parametrize("log", [True, False])
def test_a_picture_shows_every_point(*, log: bool) -> None:
    """A picture is valid XML, and each point of each curve lies between the axes."""
    curves = (Curve("a <b>", [(1.0, 0.5), (10.0, 99.0)]), Curve("c", [(700.0, 3.0)]))
    svg = ET.fromstring(draw(Picture("t", "x", "y", curves, log=log)))  # noqa: S314 - ours
    circles = [element.attrib for element in svg.iter() if element.tag.endswith("circle")]
    assert len(circles) == 3
    assert all(60 <= float(c["cx"]) <= 620 and 40 <= float(c["cy"]) <= 310 for c in circles)
