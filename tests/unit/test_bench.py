"""What `scripts/bench` makes of its figures."""

from xml.etree import ElementTree as ET

import pytest

from tests.bench.picture import Curve, Picture, draw
from tests.bench.report import Report, table
from tests.bench.rows import ROWS, Row, p99

BUDGET = Row("key", "title", {"median": 2, "worst": 10})


def test_p99_of_few_is_the_worst() -> None:
    """Of a hundred values the second worst is p99; of fewer it is the worst."""
    assert p99([*range(1, 101)]) == 99
    assert p99([3, 1, 2]) == 3


@pytest.mark.parametrize(
    ("values", "missed"),
    [([1, 2, 9], ""), ([3, 3, 3], "median 1.50 x"), ([4, 4, 20], "median 2.00 x, worst 2.00 x")],
)
def test_a_row_says_by_how_much_it_is_missed(values: list[float], missed: str) -> None:
    """Each statistic with a budget is held against it."""
    assert BUDGET.missed(values) == missed


def test_the_table_shows_all_that_was_measured() -> None:
    """Each row that was measured is there, beside another plugin's and an earlier median."""
    figures = {row.key: [1.0, 2.0, 3.0] for row in ROWS}
    earlier = Report("here", 0.1, {"xid": [7.25]})
    lines = [*table(Report("here", 0.1, figures, other={"xid": [4.5]}), earlier)]
    assert len(lines) == len(ROWS) + 2
    (xid,) = [line for line in lines if line.startswith("| Xid")]
    assert xid.endswith(
        "| 3 | 2.00 | 3.00 | 3.00 | median 1.5, p99 5 | median 1.33 x | 4.50 | 7.25 |"
    )


@pytest.mark.parametrize("log", [True, False])
def test_a_picture_has_every_point_inside(*, log: bool) -> None:
    """A picture is XML, with each point of each curve between the axes."""
    curves = (Curve("a <b>", [(1.0, 0.5), (10.0, 99.0)]), Curve("c", [(700.0, 3.0)]))
    svg = ET.fromstring(draw(Picture("t", "x", "y", curves, log=log)))  # noqa: S314 - ours
    circles = [one.attrib for one in svg.iter() if one.tag.endswith("circle")]
    assert len(circles) == 3
    assert all(60 <= float(c["cx"]) <= 620 and 40 <= float(c["cy"]) <= 310 for c in circles)
