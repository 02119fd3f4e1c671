"""Add the allowed keys and values to a decoder's error, which does not name them."""

import enum
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from supervisor.config import hints


def explain(error: msgspec.ValidationError, kind: type, content: Any) -> str:
    """Return the *error* of decoding *content* as a *kind* as one line with the key's path."""
    text, _, path = " ".join(str(error).split()).partition(" - at `$")
    place = path.rstrip("`").lstrip(".")
    types = list(_types_at(kind, path.rstrip("`")))
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", text):
        known = [f.encode_name for t in types if _is_struct(t) for f in msgspec.structs.fields(t)]
        text = hints.unknown_key(match[1], known, dict(keys(kind)), place)
    else:
        text = hints.words(text, hints.value_at(content, path.rstrip("`")))
    members = [str(m.value) for t in types if _is_enum(t) for m in t]
    if members and int in types:
        members.append("a whole number")
    if members:
        text = f"{text}; allowed: {', '.join(members)}"
    return f"{place}: {text}" if place else text


def _types_at(kind: Any, path: str) -> Iterator[Any]:
    """Yield the types allowed at *path*, such as `.sharing.timeSlicing.resources[...].devices`."""
    kinds = list(_alternatives(kind))
    for name, _ in re.findall(r"\.(\w+)|(\[[^]]*\])", path):
        inner = [member for outer in kinds for member in _step(outer, name)]
        kinds = [member for alternatives in inner for member in _alternatives(alternatives)]
    yield from kinds


def _step(kind: Any, name: str) -> Iterator[Any]:
    if not name:
        yield from (member for member in get_args(kind) if member is not Ellipsis)
    elif _is_struct(kind):
        yield from (f.type for f in msgspec.structs.fields(kind) if f.encode_name == name)


def _alternatives(kind: Any) -> Iterator[Any]:
    """Yield the members of a union without their annotations, or the type itself."""
    if hasattr(kind, "__metadata__"):
        yield from _alternatives(kind.__origin__)
    elif type(kind).__name__ in {"UnionType", "Union", "_UnionGenericAlias"}:
        for member in get_args(kind):
            yield from _alternatives(member)
    else:
        yield kind


def keys(kind: Any, above: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key of each section in *kind*, and its path."""
    for section in _alternatives(kind):
        for field in msgspec.structs.fields(section) if _is_struct(section) else ():
            yield field.encode_name, f"{above}{field.encode_name}"
            yield from keys(field.type, f"{above}{field.encode_name}.")


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)
