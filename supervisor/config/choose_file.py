"""Choose a node's configuration file: by the node's label, a default, or a fallback."""

import enum
from collections.abc import Sequence
from pathlib import Path

import msgspec

from proto.texts import NAME_LIMIT, few, shortened


class Fallback(enum.StrEnum):
    """Which file to use without a label and a default; the names are those of NVIDIA's chart."""

    NAMED = "named"
    """The file called `default`."""
    SINGLE = "single"
    """The only file in the folder."""
    EMPTY = "empty"
    """No file: the built-in defaults."""


class Wish(msgspec.Struct, frozen=True):
    """What is known when the file is chosen."""

    label: str | None = None
    """The value of the node's label; empty: no label; None: not known yet."""
    last: str | None = None
    """The file in effect; None before the first choice."""


class Choice(msgspec.Struct, frozen=True):
    """The chosen file, and why it is not the one that the label names."""

    name: str
    """Name of the file; empty: the built-in defaults."""
    problem: str = ""


def choose(files: Sequence[str], wish: Wish, default: str, fallbacks: Sequence[Fallback]) -> Choice:
    """Return the choice among *files*; ValueError if no file fits.

    A label that names no file changes nothing: the file in effect is kept.
    """
    if not wish.label:
        return Choice(_without_label(files, default, fallbacks))
    if wish.label in files:
        return Choice(wish.label)
    label, known = shortened(wish.label, NAME_LIMIT), few(files) or "none"
    problem = f'cannot use the node\'s label "{label}": no file has that name; files: {known}'
    if wish.last is not None:
        return Choice(wish.last, problem)
    return Choice(_without_label(files, default, fallbacks), problem)


def _without_label(files: Sequence[str], default: str, fallbacks: Sequence[Fallback]) -> str:
    if default:
        if default not in files:
            raise ValueError(f'it has no file "{default}", which --config-default names')
        return default
    for fallback in fallbacks:
        match fallback:
            case Fallback.NAMED if "default" in files:
                return "default"
            case Fallback.SINGLE if len(files) == 1:
                return files[0]
            case Fallback.EMPTY:
                return ""
            case _:
                continue
    raise ValueError(
        "no fallback fits a node without the label; set --config-default, or add empty to "
        "--config-fallback-strategies"
    )


def listing(folder: str) -> list[str]:
    """Return the names of the files in *folder*, without the hidden ones of a ConfigMap volume.

    Raises OSError.
    """
    found = Path(folder).iterdir()
    return sorted(path.name for path in found if path.name[0] != "." and path.is_file())
