"""`flags.gfd` of NVIDIA's configuration file: what means the same here, and what does not.

The section is GPU feature discovery's, and its other keys may be anything, so only the keys that
take effect are checked, and only where the node is labelled.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

KEYS = ("machineTypeFile", "noTimestamp", "outputFile", "sleepInterval")
"""The keys that take effect."""

INTERVAL = 60.0
"""Seconds, if `sleepInterval` is not set."""

SHORTEST, LONGEST = 1.0, 7 * 24 * 3600.0
"""Seconds of an interval."""

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

DURATION = re.compile(r"(?:[0-9]{1,18}(?:\.[0-9]{1,18})?(?:ns|us|µs|ms|s|m|h)){1,8}")
"""A duration as Go writes it, such as 1m30s."""


class Gfd(msgspec.Struct, frozen=True):
    """What `flags.gfd` says, as far as it takes effect."""

    output_file: str = ""
    """Empty: not set."""
    machine_type_file: str | None = None
    """None: not set; empty: do not tell the kind of machine."""
    sleep_interval: float | None = None
    """Seconds; 0: infinite; None: not set."""
    timestamp: bool = False
    """Whether `noTimestamp` is set to false: without a wish there is no such label here."""


def read(section: Mapping[str, Any] | None) -> Gfd:
    """Return what *section* says; ValueError begins with the key that is wrong."""
    found = {key: value for key, value in (section or {}).items() if value is not None}
    wished = found.get("noTimestamp", True)
    if not isinstance(wished, bool):
        wrong = f"flags.gfd.noTimestamp: {_shown(wished)}: write true or false"
        raise ValueError(wrong)  # noqa: TRY004 - as for each wrong value of a file
    given = found.get("sleepInterval")
    return Gfd(
        _text(found, "outputFile"),
        _text(found, "machineTypeFile") if "machineTypeFile" in found else None,
        None if given is None else _interval(given),
        timestamp=not wished,
    )


def interval(text: str) -> float:
    """Return the seconds in *text*, such as 90s or 1m30s, 0 for infinite; ValueError otherwise."""
    if text == "infinite":
        return 0.0
    if not DURATION.fullmatch(text):
        raise ValueError("write a time as 60s or 1m30s, or infinite")
    parts = re.findall(r"([\d.]+)([a-zµ]+)", text)
    return _bounded(sum(float(number) * UNITS[unit] for number, unit in parts))


def notices(section: Mapping[str, Any] | None, *, used: bool) -> Iterator[str]:
    """Yield what of *section* has no effect; *used*: whether the node is labelled."""
    if section is not None and not used:
        yield "flags.gfd has no effect while --node-labels is off"
    elif section and (others := sorted(str(key) for key in section if key not in KEYS)):
        names = ", ".join(f"flags.gfd.{key}"[:80] for key in others[:8])
        yield f"{names} has no effect here: the labels follow the node as long as the service runs"


def plain(section: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return *section* without what has no effect."""
    return None if section is None else {key: section[key] for key in KEYS if key in section}


def _interval(value: object) -> float:
    try:
        # As in NVIDIA's file, a number is nanoseconds.
        if isinstance(value, int | float) and not isinstance(value, bool):
            return _bounded(value * UNITS["ns"])
        return interval(str(value))
    except ValueError as error:
        raise ValueError(f"flags.gfd.sleepInterval: {_shown(value)}: {error}") from error


def _bounded(seconds: float) -> float:
    if not SHORTEST <= seconds <= LONGEST:
        raise ValueError(f"write at least {SHORTEST:g}s and at most {LONGEST // 3600:g}h")
    return seconds


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key, "")
    if not isinstance(value, str):
        wrong = f"flags.gfd.{key}: {_shown(value)}: write a path"
        raise ValueError(wrong)  # noqa: TRY004 - as for each wrong value of a file
    return value


def _shown(value: object) -> str:
    return f'"{str(value)[:80]}"'
