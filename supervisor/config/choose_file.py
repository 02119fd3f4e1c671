"""Which of several configurations a node goes by: its label's, the default one, or a fallback."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class Fallback(enum.StrEnum):
    """What to go by when neither a label nor a default names a file; NVIDIA's chart's words."""

    NAMED = "named"
    """The file called `default`."""
    SINGLE = "single"
    """The only file that there is."""
    EMPTY = "empty"
    """No file: the built-in defaults."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is known of the choice when the settings are read."""

    label: str | None = None
    """The value of the node's label, empty for none; None: not known yet."""
    last: str | None = None
    """The file that is in effect; None: none is yet."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The file that was chosen, and what is wrong with that."""

    name: str
    """Empty for the built-in defaults."""
    problem: str = ""


def choose(files: Sequence[str], wish: Wish, default: str, fallbacks: Sequence[Fallback]) -> Choice:
    """Return the choice among *files*; ValueError says why there is none.

    A label that names no file changes nothing: what is in effect stays so.
    """
    if not wish.label:
        return Choice(_without_label(files, default, fallbacks))
    if wish.label in files:
        return Choice(wish.label)
    known = ", ".join(files) or "none"
    problem = f'cannot use the node\'s label "{wish.label}": no file has that name; files: {known}'
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
    """Return the names of the files in *folder*, without those that a ConfigMap's volume hides.

    Raises OSError.
    """
    found = Path(folder).iterdir()
    return sorted(path.name for path in found if path.name[0] != "." and path.is_file())
