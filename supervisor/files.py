"""Read what users write in files: YAML, and so JSON, into a typed value or a one-line error."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

T = TypeVar("T")


class FileError(Exception):
    """A file that cannot be used; the message is one line that names it."""


def read(
    path: str, what: str, kind: type[T], decode: Callable[[type, Any], Any] | None = None
) -> tuple[dict[str, Any], T]:
    """Return the content of the file at *path*, plain and as *kind*; errors say *what* it is."""
    try:
        content = yaml.safe_load(Path(path).read_text()) or {}
        return content, msgspec.convert(content, kind, dec_hook=decode)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise FileError(f'cannot use the {what} "{path}": {_one_line(error)}') from error


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
