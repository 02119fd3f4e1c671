"""Texts for people that go into a message or the log: one line, printable, of limited length.

Each text is made short where it is made, so that no message grows with a configuration file.
"""

from collections.abc import Collection
from itertools import islice

TEXT_LIMIT = 1000
"""Most characters of a text."""

NAME_LIMIT = 128
"""Most characters of a name in a text; the name of a device or a resource has 63 at most."""

MOST_NAMES = 8
"""Names that a text lists; more would hide the text."""

GAP = " ... "


def printable(text: str) -> str:
    """Return *text* with control characters escaped, which could command a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def shortened(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return *text* printable, and without its middle if it has more than *limit* characters."""
    shown = printable(text)
    if len(shown) <= limit:
        return shown
    half = (limit - len(GAP)) // 2
    return shown[:half] + GAP + shown[-half:]


def few(names: Collection[str], separator: str = ", ") -> str:
    """Return the first *names*, each shortened, and the number of the others."""
    shown = separator.join(shortened(name, NAME_LIMIT) for name in islice(names, MOST_NAMES))
    more = len(names) - MOST_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown
