"""One option of `run`: its flag, environment variable and place, and how its text is read."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """One setting as users give it; the precedence is flag, environment, file, default."""

    flags: tuple[str, ...]
    """The flag and its aliases."""
    path: str
    """Its place in the settings; under `service.` it is no part of the configuration file."""
    help: str
    environment: tuple[str, ...] = ()
    parse: Callable[[str], object] = str
    """Makes the setting of a flag's or variable's text; ValueError says what is allowed."""
    switch: bool = False
    """The bare flag means true."""
    repeatable: bool = False
    """The flag may be given several times, as well as with several values."""


def boolean(text: str) -> bool:
    """Return the truth of *text*, in the spellings of Go's ParseBool."""
    if text in {"1", "t", "T", "true", "TRUE", "True"}:
        return True
    if text in {"0", "f", "F", "false", "FALSE", "False"}:
        return False
    raise ValueError("write true or false")


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return what takes one of the *allowed* texts."""

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


def several(parse: Callable[[str], object]) -> Callable[[str], tuple[object, ...]]:
    """Return what takes texts separated by commas, each as *parse* does."""
    return lambda text: tuple(parse(one.strip()) for one in text.split(",") if one.strip())
