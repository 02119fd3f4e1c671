"""Durations in the configuration file."""

import re
from typing import Self

LONGEST = 7 * 24 * 3600
"""Seconds; the kernel cannot wait longer than 24 days, and a timeout that long protects nobody."""


class Seconds(float):
    """A duration, written as `500ms`, `30s`, `5m`, `1h` or as a number of seconds."""

    UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}  # noqa: RUF012 - never changed
    HOW = "write a time as 30s, 5m or 2.5"
    LEAST, SHORTEST, WHY = 0.1, "100ms", ""
    """The shortest in seconds and as text, and why, for the error.

    A shorter one would keep a processor busy, or protect nobody.
    """

    @classmethod
    def read(cls, value: object) -> Self:
        """Return the duration in *value*; ValueError unless it is from LEAST to LONGEST."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)?", str(value))
        if isinstance(value, bool) or not match or not float(match[1]):
            shown = str(value).lower() if isinstance(value, bool) else value
            raise ValueError(f'"{shown}" is not a positive time; {cls.HOW}')
        seconds = float(match[1]) * cls.UNITS[match[2] or "s"]
        if seconds > LONGEST:
            raise ValueError(f'"{value}" is too long; write at most {LONGEST // 3600}h')
        if seconds < cls.LEAST:
            raise ValueError(f'"{value}" is too short{cls.WHY}; write at least {cls.SHORTEST}')
        return cls(seconds)

    def __str__(self) -> str:
        return f"{float(self):g}s"


class SecondsOrNever(Seconds):
    """A duration as in `Seconds`, or `0` for never."""

    HOW = f"{Seconds.HOW}, or 0 for never"

    @classmethod
    def read(cls, value: object) -> Self:
        """Return the duration in *value*, 0 for never; ValueError as in `Seconds.read`."""
        if re.fullmatch(r"0+(\.0+)?(ms|s|m|h)?", str(value)):
            return cls(0)
        return super().read(value)


class Patience(Seconds):
    """A duration as in `Seconds`, for which a process may be silent before it counts as hung."""

    LEAST, SHORTEST, WHY = 3.0, "3s", ": each process reports only once a second"
    """As in `Seconds`; a busy machine may delay a report or two."""


class SampleInterval(SecondsOrNever):
    """A duration as in `SecondsOrNever`, between two samples."""

    LEAST, SHORTEST = 1.0, "1s"
