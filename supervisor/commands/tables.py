"""Tables of commands: every cell is printable, and no column is cut off."""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from proto.texts import printable

FOLDED = {"resource", "held by", "used by"}
"""Columns that wrap on a narrow terminal; no column is cut off."""


def text(content: str, style: str = "") -> Text:
    """Return text without characters that command a terminal."""
    return Text(printable(content), style, overflow="fold")


def table(head: Iterable[str]) -> Table:
    """Return an empty table with these columns."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in head:
        made.add_column(title, overflow="fold", no_wrap=title not in FOLDED)
    return made
