"""Read users' files, YAML or JSON, into a typed value, or into an error of one line."""

import os
import stat
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import yaml

from supervisor.config.explain import explain
from supervisor.config.strict_yaml import Loader

T = TypeVar("T")


class FileError(Exception):
    """A file cannot be used; the message is one line that names the file."""


LIMIT = 256 << 10
"""Most bytes of a file: parsing more would block the supervisor for seconds."""


def read(
    path: str, what: str, kind: type[T], decode: Callable[[type, Any], Any] | None = None
) -> tuple[dict[str, Any], T]:
    """Return the content of the file at *path*, plain and as *kind*; raise FileError.

    Errors call the file *what*.
    """
    try:
        # Safe: our Loader is a SafeLoader.
        content = _without_nulls(yaml.load(_text(path), Loader))  # noqa: S506
        return content, msgspec.convert(content, kind, dec_hook=decode)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise FileError(f'cannot use the {what} "{path}": {_one_line(error, kind)}') from error


def _text(path: str) -> str:
    # Not Path.open, which has no opener: opening a pipe would wait for a writer.
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"it is larger than {LIMIT >> 10} KiB")
    return content.decode()


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _without_nulls(content: Any) -> Any:
    """Return *content* without keys that have no value, as when their value is commented out."""
    if content is None:
        return {}
    if isinstance(content, dict):
        return {key: _without_nulls(value) for key, value in content.items() if value is not None}
    if isinstance(content, list):
        return [value if value is None else _without_nulls(value) for value in content]
    return content


def _one_line(error: Exception, kind: type) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, msgspec.ValidationError):
        return explain(error, kind)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
