"""Say what would have been allowed, which a decoder that refuses a value does not."""

import enum
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec


def explain(error: msgspec.ValidationError, kind: type) -> str:
    """Return the *error* of decoding a *kind* as one line, with the key's path."""
    text, _, path = " ".join(str(error).split()).partition(" - at `$")
    place = path.rstrip("`").lstrip(".")
    types = list(_types_at(kind, path.rstrip("`")))
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", text):
        known = [f.encode_name for t in types if _is_struct(t) for f in msgspec.structs.fields(t)]
        text = f'unknown key "{match[1]}"; allowed keys: {", ".join(known)}'
    members = [str(m.value) for t in types if _is_enum(t) for m in t]
    if members:
        text = f"{text}; allowed: {', '.join(members)}"
    return f"{place}: {text}" if place else text


def _types_at(kind: Any, path: str) -> Iterator[Any]:
    """Yield what may stand at *path*, such as `.sharing.timeSlicing.resources[...].devices`."""
    kinds = list(_alternatives(kind))
    for name, _ in re.findall(r"\.(\w+)|(\[[^]]*\])", path):
        kinds = [
            inner for one in kinds for outer in _step(one, name) for inner in _alternatives(outer)
        ]
    yield from kinds


def _step(kind: Any, name: str) -> Iterator[Any]:
    if not name:
        yield from (one for one in get_args(kind) if one is not Ellipsis)
    elif _is_struct(kind):
        yield from (f.type for f in msgspec.structs.fields(kind) if f.encode_name == name)


def _alternatives(kind: Any) -> Iterator[Any]:
    """Yield the members of a union, without annotations."""
    if hasattr(kind, "__metadata__"):
        yield from _alternatives(kind.__origin__)
    elif type(kind).__name__ in {"UnionType", "Union", "_UnionGenericAlias"}:
        for one in get_args(kind):
            yield from _alternatives(one)
    else:
        yield kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)
