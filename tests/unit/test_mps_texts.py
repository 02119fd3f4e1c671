"""How the stand-in for nvidia-cuda-mps-control writes numbers and tables."""

from pathlib import Path

import pytest

from tests.fakes.mps import texts
from tests.hardware import mps
from tests.hardware.transcript import Transcript


@pytest.mark.parametrize(
    ("given", "written"),
    [("25", "25.0"), ("33.3", "33.3"), ("100", "100.0"), ("250", None), ("0", None), ("x", None)],
)
def test_a_percentage_has_one_decimal(given: str, written: str | None) -> None:
    """A percentage is written with one decimal, and refused if it is 0 or over 100."""
    assert texts.percentage(given) == written


@pytest.mark.parametrize(
    ("given", "written", "mebibytes"),
    [
        ("4096M", "4G", 4096),
        ("1G", "1G", 1024),
        ("1500M", "1500M", 1500),
        ("81559M", "81559M", 81559),
    ],
)
def test_a_limit_of_whole_gibibytes_is_written_with_g(
    given: str, written: str, mebibytes: int
) -> None:
    """A memory limit is written in G where that is exact."""
    assert texts.limit(given) == written
    assert texts.mebibytes(written) == mebibytes


@pytest.mark.parametrize("given", ["1.5G", "2048", "2g", "", "-1M", "1T"])
def test_a_limit_needs_an_integer_and_g_or_m(given: str) -> None:
    """A memory limit without an integer and a unit is refused."""
    assert texts.limit(given) is None


def test_a_row_of_ps_is_as_wide_as_the_real_one() -> None:
    """A row of `ps` has the columns that were seen on an H100."""
    cells = ("983", "1", "855", "GPU-0056feb4-9cc9-4b30", "4026531836", "/opt/torch/bin/python3")
    seen = (
        "983       1         855            GPU-0056feb4-9cc9-4b30    4026531836     "
        "/opt/torch/bin/python3"
    )
    assert texts.row(cells, texts.WIDTHS) == seen


def test_each_line_of_the_transcript_says_whether_it_was_seen() -> None:
    """Each line of the committed transcript has a mark, and most questions have been asked."""
    lines = mps.GOLDEN.read_text().splitlines()
    assert {line[:2] for line in lines if line[:1] != "#"} == {"", "  ", "? "}
    assert sum(line.startswith("  ") for line in lines) > 100


def test_a_transcript_names_processes_and_keeps_numbers(tmp_path: Path) -> None:
    """PIDs of what a daemon wrote become names of the same width; other numbers stay."""
    out = Transcript("GPU-0056feb4-9cc9-4b30-e910-b2dbccf95216", tmp_path, 1)
    out.server(25)
    out.quote("| 25        1         GPU-0056feb4-9cc9-4b30    25.0 125 25M")
    out.say("% asked for 25")
    assert out.lines == [
        "| SERVER1   1         GPU-UUID                  25.0 125 25M",
        "% asked for 25",
    ]
