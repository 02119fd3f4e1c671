"""The measured figures, as a Markdown table and as JSON for later comparison."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.bench.rows import ROWS, STATISTICS, Figures, Row


class Report(msgspec.Struct, frozen=True):
    """The figures that were measured on one machine."""

    machine: str
    load: float
    """The load average over the last minute before the measurement."""
    figures: Figures
    other: Figures = {}
    """The figures of the other plugin, if one was measured."""


class ReportError(Exception):
    """A file with a report cannot be read; the message is one line."""


def machine() -> str:
    """Return a description of this machine."""
    kernel, python = platform.release(), platform.python_version()
    return f"{os.cpu_count()} processors, Linux {kernel}, Python {python}"


def read(path: Path) -> Report:
    """Read a report from a file; ReportError if that fails."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise ReportError(f"cannot read the report {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        text = f"cannot read the report {path}: {error}; write one with --json"
        raise ReportError(text) from error


def table(report: Report, earlier: Report | None) -> Iterator[str]:
    """Yield the lines of a Markdown table: each measured row with its budget."""
    heads = ["", "times", *STATISTICS, "budget", "missed by"]
    heads += ["other plugin's median"] if report.other else []
    heads += ["earlier median"] if earlier else []
    yield _line(heads)
    yield _line(["---", *["---:"] * (len(heads) - 1)])
    for row in ROWS:
        if values := report.figures.get(row.key):
            cells = [row.title, str(len(values)), *_statistics(values), _budget(row)]
            cells.append(row.missed(report.figures))
            cells += [_median(report.other, row)] if report.other else []
            cells += [_median(earlier.figures, row)] if earlier else []
            yield _line(cells)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _statistics(values: list[float]) -> list[str]:
    return [f"{statistic(values):.2f}" for statistic in STATISTICS.values()]


def _budget(row: Row) -> str:
    unit = " x the row above" if row.against else ""
    return ", ".join(f"{name} {most:g}{unit}" for name, most in row.budget.items())


def _median(figures: Figures, row: Row) -> str:
    values = figures.get(row.key)
    return f"{STATISTICS['median'](values):.2f}" if values else ""
