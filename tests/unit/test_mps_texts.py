"""How the stand-in for nvidia-cuda-mps-control writes numbers and tables."""

from pathlib import Path

import pytest

from simulator.mps import texts
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
    ("given", "mebibytes", "written"),
    [
        ("4096M", 4096, "4G"),
        ("1G", 1024, "1G"),
        ("1500M", 1500, "1G"),
        ("81559M", 81559, "79G"),
        ("1023M", 1023, "1023M"),
        ("2048", 2048, "2G"),
        ("2g", 2048, "2G"),
        ("1.5G", 1, "1M"),
    ],
)
def test_a_limit_is_written_in_whole_gibibytes(given: str, mebibytes: int, written: str) -> None:
    """A memory limit is written rounded down from 1 GiB on, but holds exactly."""
    assert texts.mebibytes(given) == mebibytes
    assert texts.limit(mebibytes) == written


@pytest.mark.parametrize("given", ["0M", "", "-1M", "some"])
def test_a_limit_without_an_integer_is_none(given: str) -> None:
    """A memory limit that begins with no integer, or with 0, is no limit."""
    assert texts.mebibytes(given) == 0


def test_an_empty_line_is_logged_with_the_next() -> None:
    """What is logged of an answer is a line each, and none for its end."""
    assert texts.lines("Default\na\n\nServer 5\nb\n") == ["Default", "a", "\nServer 5", "b"]
    assert texts.lines("") == []


def test_a_row_of_ps_is_as_wide_as_the_real_one() -> None:
    """A row of `ps` has the columns that were seen on an H100."""
    cells = ("983", "1", "855", "GPU-0056feb4-9cc9-4b30", "4026531836", "/opt/torch/bin/python3")
    seen = (
        "983       1         855            GPU-0056feb4-9cc9-4b30    4026531836     "
        "/opt/torch/bin/python3"
    )
    assert texts.row(cells, texts.WIDTHS) == seen


def test_each_line_of_the_transcript_says_whether_it_was_seen() -> None:
    """Each line of the committed transcript has a mark, and most were seen on hardware."""
    lines = [line for line in mps.GOLDEN.read_text().splitlines() if line[:1] != "#"]
    assert {line[:2] for line in lines} <= {"", "  ", "? "}
    assert sum(line.startswith("  ") for line in lines) > 500


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


def test_a_transcript_leaves_out_what_differs_between_runs(tmp_path: Path) -> None:
    """A client's context has its client's name, and a request the real server cannot name none."""
    out = Transcript("GPU-0056feb4-9cc9-4b30-e910-b2dbccf95216", tmp_path, 1)
    out.name(710, "CLIENT1")
    for line in ("| 710.1", "| 711.2", "| 100.0", "| 33.3"):
        out.quote(line)
    for pid in ("-2147483648", "710"):
        text = f"Received new client request for {{PID: {pid}, Context ID: 9}}"
        out.logged("1", "Server", text)
    assert out.lines == [
        "| CLIENT1.1",
        "| OTHER.2",
        "| 100.0",
        "| 33.3",
        "@ OTHER Server: Received new client request for {PID: ANY, Context ID: ANY}",
    ]
