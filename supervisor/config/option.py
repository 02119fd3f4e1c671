"""One option of `run`: its flag, environment variable, path in the settings, and parser."""

import re
from collections.abc import Callable

import msgspec

LONGEST_TEXT = 4095
"""Most bytes of a text, as of a path on Linux."""

LONGEST_NAME = 253
"""Most characters of the name of a node or another object of Kubernetes."""

LONGEST_KEY = LONGEST_NAME + len("/") + 63
"""Most characters of a label's key, or of a CDI kind: a prefix and a name."""

LONGEST_FILE_NAME = 255
"""Most bytes of a file's name on Linux."""

LONGEST_ADDRESS = LONGEST_NAME + len("[]:65535")
"""Most characters of a host and a port."""

LONGEST_SHARES = 32 << 10
"""Most bytes of --resource-config, with room for hundreds of resources."""

_HOST_NAME = re.compile(r"(?=.{1,255}$)(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.|$))+")


class Option(msgspec.Struct, frozen=True):
    """One setting as users give it; flag overrides environment, file and default, in this order."""

    flags: tuple[str, ...]
    """The flag and its aliases."""
    path: str
    """Its path in the settings; below `service.` it cannot be set in the configuration file."""
    help: str
    environment: tuple[str, ...] = ()
    parse: Callable[[str], object] = str
    """Converts the text of the flag or variable; ValueError says what is allowed."""
    switch: bool = False
    """Whether the flag without a value means true."""
    repeatable: bool = False
    """Whether the flag may be given several times, besides several values in one flag."""
    most: int = LONGEST_TEXT
    """Most bytes of its text."""


def boolean(text: str) -> bool:
    """Return *text* as a boolean, in the spellings of Go's ParseBool."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError("write true or false")


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return a parser that accepts only the *allowed* texts."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"write {' or '.join(allowed)}")
        return text

    return parse


def number(text: str) -> int:
    """Return *text* as a number."""
    if not text.isdecimal():
        raise ValueError("write a number")
    return int(text)


def host_name(text: str) -> str:
    """Return *text* as the name of a host, or as `*.` and the name of a domain, or as `*`."""
    if text != "*" and not _HOST_NAME.fullmatch(text):
        raise ValueError("write names without a port, such as gpus.example.com or *.example.com")
    return text


def several(parse: Callable[[str], object]) -> Callable[[str], tuple[object, ...]]:
    """Return a parser of texts separated by commas, which parses each with *parse*."""
    return lambda text: tuple(parse(part.strip()) for part in text.split(",") if part.strip())
