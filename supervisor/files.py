"""Read what users write in files: YAML, and so JSON, into a typed value or a one-line error."""

import re
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from supervisor.explain import explain

T = TypeVar("T")


class FileError(Exception):
    """A file that cannot be used; the message is one line that names it."""


INT = "tag:yaml.org,2002:int"


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, and reads 1:0 as the MIG instance that it is.

    YAML would take the last of the keys, and in its version 1.1 reads 1:0 as sixty.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - the base's name and kind
        first: [(tag, pattern) for tag, pattern in resolvers if tag != INT]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        keys = [key.value for key, _ in node.value]
        for key, _ in node.value:
            if keys.count(key.value) > 1:
                problem = f'the key "{key.value}" is given twice'
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    INT, re.compile(r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0o?[0-7_]+)$"), list("-+0123456789")
)


def read(
    path: str, what: str, kind: type[T], decode: Callable[[type, Any], Any] | None = None
) -> tuple[dict[str, Any], T]:
    """Return the content of the file at *path*, plain and as *kind*; errors say *what* it is."""
    try:
        # The loader is a safe one.
        content = _without_nulls(yaml.load(Path(path).read_text(), _Loader))  # noqa: S506
        return content, msgspec.convert(content, kind, dec_hook=decode)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise FileError(f'cannot use the {what} "{path}": {_one_line(error, kind)}') from error


def _without_nulls(content: Any) -> Any:
    """Return *content* without keys that have no value: all behind them is commented out."""
    if content is None:
        return {}
    if isinstance(content, dict):
        return {key: _without_nulls(one) for key, one in content.items() if one is not None}
    if isinstance(content, list):
        return [one if one is None else _without_nulls(one) for one in content]
    return content


def _one_line(error: Exception, kind: type) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, msgspec.ValidationError):
        return explain(error, kind)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())
