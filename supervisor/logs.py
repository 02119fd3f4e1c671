"""Logging: one line per event on stderr, as text or JSON; each process sets it up for itself.

Lines are written at once, without a thread. If the reader of stderr stops reading, the service
goes on: a line that the pipe cannot take is dropped, and the next line counts the dropped ones.
"""

import contextlib
import enum
import json
import logging
import os
import select
from typing import TYPE_CHECKING, Any, TypeVar

from loguru import logger

from proto.texts import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from loguru import Message, Record

T = TypeVar("T")

STDERR = 2
LINE_LIMIT = select.PIPE_BUF
"""Bytes that a pipe which polls as writable takes in one piece without blocking."""


SHORTEST = 16
"""Characters that each field keeps at least when a line is shortened."""


class Format(enum.StrEnum):
    """The format of log lines."""

    TEXT = "text"
    JSON = "json"


class Level(enum.StrEnum):
    """The least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def set_up(process: str, form: Format, level: Level) -> None:
    """Log to stderr, with the name of the *process* in each line."""
    logger.remove()
    logger.configure(extra={"process": process})
    render = {Format.TEXT: _text, Format.JSON: _json}[form]
    logging.lastResort = _FromLibraries(logging.WARNING)
    logger.add(_Sink(render).write, level=level.upper(), format="{message}", catch=True)


class _FromLibraries(logging.Handler):
    """Logs what libraries log as one line in our format, instead of several in theirs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log *record* in our format."""
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
        with contextlib.suppress(OSError):  # the reader of our log has ended
            os.write(STDERR, line + b"\n")
        self._dropped = 0

    def _fitting(self, record: "Record") -> bytes:
        """Return the line; its longest fields are shortened until it fits into a pipe."""
        line = printable(self._render(record).replace("\n", " ")).encode()
        allowed = LINE_LIMIT
        while len(line) >= LINE_LIMIT and allowed > SHORTEST:
            allowed //= 2
            extra = {name: _shortened(value, allowed) for name, value in record["extra"].items()}
            record["extra"] = extra
            record["message"] = _shortened(record["message"], allowed)
            line = printable(self._render(record).replace("\n", " ")).encode()
        return line[: LINE_LIMIT - 1]


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
    # Quoted if it could be read as more than one field.
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
        cause = cause.exceptions[0]  # the message of a group does not say what happened
    trace: TracebackType | None = cause.__traceback__ if cause else error.traceback
    while trace:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f" [{type(cause).__name__}: {cause} at {' < '.join(reversed(frames))}]"
