"""Logging: one event one line on stderr, as text or JSON, set up anew in every process.

Written at once, without a thread. A reader of stderr that stands still costs log lines, not the
service: a line that a pipe cannot take now is dropped, and the next one says how many were.
"""

import contextlib
import enum
import json
import logging
import os
import select
from typing import TYPE_CHECKING, Any, TypeVar

from loguru import logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from loguru import Message, Record

T = TypeVar("T")

STDERR = 2
LINE_LIMIT = select.PIPE_BUF
"""A pipe that polls as writable takes this many bytes without blocking, and in one piece."""


SHORTEST = 16
"""Characters that a field of a line which is too long keeps at least."""


class Format(enum.StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


class Level(enum.StrEnum):
    """The least important lines that are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def set_up(process: str, form: Format, level: Level) -> None:
    """Send this process's log lines to stderr, marked with its name."""
    logger.remove()
    logger.configure(extra={"process": process})
    render = {Format.TEXT: _text, Format.JSON: _json}[form]
    logging.lastResort = _FromLibraries(logging.WARNING)
    logger.add(_Sink(render).write, level=level.upper(), format="{message}", catch=True)


class _FromLibraries(logging.Handler):
    """Makes a line like ours of what a library logs, which else were several of another form."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log *record* as ours."""
        ours = logger.bind(library=record.name).opt(exception=record.exc_info)
        ours.log(record.levelname, "{}", record.getMessage())


class _Sink:
    def __init__(self, render: "Callable[[Record], str]") -> None:
        self._render = render
        self._dropped = 0
        self._poll = select.poll()
        self._poll.register(STDERR, select.POLLOUT)

    def write(self, message: "Message") -> None:
        record = message.record
        if self._dropped:
            record["extra"]["dropped_lines"] = self._dropped
        line = self._fitting(record)
        if not self._poll.poll(0):
            self._dropped += 1
            return
        with contextlib.suppress(OSError):  # whoever read our log is gone
            os.write(STDERR, line + b"\n")
        self._dropped = 0

    def _fitting(self, record: "Record") -> bytes:
        """Return the line, with its longest fields shortened until it fits into a pipe."""
        line = printable(self._render(record).replace("\n", " ")).encode()
        allowed = LINE_LIMIT
        while len(line) >= LINE_LIMIT and allowed > SHORTEST:
            allowed //= 2
            extra = {name: _shortened(value, allowed) for name, value in record["extra"].items()}
            record["extra"] = extra
            record["message"] = _shortened(record["message"], allowed)
            line = printable(self._render(record).replace("\n", " ")).encode()
        return line[: LINE_LIMIT - 1]


def printable(text: str) -> str:
    """Return *text* with what would command a terminal, or begin a line, shown instead."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def _shortened(value: T, length: int) -> T | str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return value if len(text) <= length else text[:length] + "..."


def _text(record: "Record") -> str:
    fields = dict(record["extra"])
    process = fields.pop("process")
    shown = "".join(f" {name}={_value(value)}" for name, value in fields.items())
    when = record["time"].strftime("%Y-%m-%dT%H:%M:%S.%f%z")
    head = f"{when} {record['level'].name:<7} {process}: {record['message']}{shown}"
    return head + _trace(record)


def _value(value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value, default=str)
    # Quoted where it could be taken for more than one field.
    return json.dumps(value) if " " in value or not value.isprintable() else value


def _json(record: "Record") -> str:
    line: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name.lower(),
        "message": record["message"] + _trace(record),
    }
    return json.dumps(line | record["extra"], default=str)


def _trace(record: "Record") -> str:
    error = record["exception"]
    if error is None or error.traceback is None:
        return ""
    frames = []
    cause = error.value
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]  # a group says nothing of what happened
    trace: TracebackType | None = cause.__traceback__ if cause else error.traceback
    while trace:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f" [{type(cause).__name__}: {cause} at {' < '.join(reversed(frames))}]"
