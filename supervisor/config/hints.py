"""What to write instead of a value that the decoder refuses."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MANIFEST = {"apiVersion", "kind", "metadata", "data"}
"""Keys of a Kubernetes object, which is not the configuration in it."""

LIKE = 0.75
"""How alike two names are that differ by a letter, from 0 to 1."""


def unknown_key(key: str, allowed: Iterable[str], places: Mapping[str, str], place: str) -> str:
    """Return the problem of an unknown *key* at *place*; *places* are the keys of all sections."""
    known = list(allowed)
    if not place and key in MANIFEST:
        return f'"{key}" is of a Kubernetes manifest; pass only the text below data'
    text = f'unknown key "{key}"'
    if key in places:
        text = f"{text} (did you mean {places[key]}?)"
    elif near := closest(key, known):
        text = f'{text} (did you mean "{near}"?)'
    return f"{text}; allowed keys: {', '.join(known)}"


def closest(name: str, known: Iterable[str]) -> str:
    """Return the name among *known* that *name* may be a mistake for; empty: none."""
    lower = {other.lower(): other for other in known}
    found = difflib.get_close_matches(name.lower(), lower, 1, LIKE)
    return lower[found[0]] if found else ""


def value_at(content: Any, path: str) -> Any:
    """Return the value in *content* at the decoder's *path*; None if the path names none."""
    for name, place in re.findall(r"\.(\w+)|\[(\d+|\.\.\.)\]", path):
        if isinstance(content, dict) and name in content:
            content = content[name]
        elif isinstance(content, list) and place.isdecimal() and int(place) < len(content):
            content = content[int(place)]
        else:
            return None
    return content


def words(text: str, value: Any) -> str:
    """Return the decoder's *text* about *value*, or better words that say what to write."""
    return next(_words(text, value), text)


def _words(text: str, value: Any) -> Iterator[str]:
    expects = re.match(r"Expected `(\w+)`", text)
    match expects[1] if expects else "", value:
        case "bool", str() if value.lower() in {"true", "false"}:
            yield f'"{value}" is a text; write {value.lower()} without quotes'
        case "int", str() if re.fullmatch(r"-?\d{1,9}(\.0+)?", value):
            yield f'"{value}" is a text; write {value.partition(".")[0]} without quotes'
        case "int", float() if value.is_integer():
            yield f"{value} is not a whole number; write {int(value)}"
        case "int", 1 if text.endswith(">= 2"):
            yield "one replica shares nothing; leave the entry out"
        case "array", [] if text.endswith(">= 1"):
            yield "the list is empty; leave the section out"
        case _:
            pass
    if text == "Object missing required field `resources`":
        yield "it has no resources to share; leave it out"
    if text.startswith("Invalid enum") and isinstance(value, str) and "," in value:
        yield f"{text}; write a list: [{', '.join(part.strip() for part in value.split(','))}]"
