"""Read users' files, YAML or JSON, into a typed value, or into an error of one line."""

import importlib
import os
import stat
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from supervisor.config.explain import explain

T = TypeVar("T")


class FileError(Exception):
    """A file cannot be used; the message is one line that names the file."""


LIMIT = 256 << 10
"""Most bytes of a file: parsing more would block the supervisor for seconds."""


def read(
    path: str,
    what: str,
    kind: type[T],
    decode: Callable[[type, Any], Any] | None = None,
    given: bytes | None = None,
) -> tuple[dict[str, Any], T]:
    """Return the content of the file at *path*, plain and as *kind*; raise FileError.

    Errors call the file *what*. If its content is *given*, the file is not read.
    """
    # Only here: many nodes have no file, and YAML is a tenth of what a start imports.
    strict_yaml = importlib.import_module("supervisor.config.strict_yaml")
    try:
        content = _without_nulls(strict_yaml.load(_text(path, given)))
        return content, _convert(content, kind, decode)
    except (OSError, ValueError, RecursionError) as error:
        raise FileError(f'cannot use the {what} "{path}": {_one_line(error)}') from error


def _convert(content: Any, kind: type[T], decode: Callable[[type, Any], Any] | None) -> T:
    try:
        return msgspec.convert(content, kind, dec_hook=decode)
    except msgspec.ValidationError as error:
        raise ValueError(explain(error, kind, content)) from error


def _text(path: str, given: bytes | None) -> str:
    content = _bytes(path) if given is None else given
    if len(content) > LIMIT:
        raise ValueError(f"it is larger than {LIMIT >> 10} KiB")
    return content.decode()


def _bytes(path: str) -> bytes:
    # Not Path.open, which has no opener: opening a pipe would wait for a writer.
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is not a regular file")
        return file.read(LIMIT + 1)


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


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())
