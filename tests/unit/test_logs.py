"""Log lines as they reach stderr."""

import asyncio
import fcntl
import json
import logging
import os
import re
import select
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from supervisor import logs
from supervisor.logs import Format, Level

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d{4}"


class Stderr:
    """A pipe in place of stderr."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 4 * select.PIPE_BUF)

    def lines(self) -> list[str]:
        """Return the lines that were written since the last call."""
        try:
            return os.read(self.read_end, 1 << 20).decode().splitlines(keepends=True)
        except BlockingIOError:
            return []

    def line(self) -> str:
        """Return the only line that was written, without its line break."""
        (line,) = self.lines()
        assert line.endswith("\n")
        return line[:-1]

    def entry(self) -> dict[str, Any]:
        """Return the only JSON line that was written."""
        entry: dict[str, Any] = json.loads(self.line())
        return entry

    def fill(self) -> None:
        """Fill the pipe, so that it takes no further line."""
        os.set_blocking(self.write_end, False)
        try:
            while True:
                os.write(self.write_end, b"x" * select.PIPE_BUF)
        except BlockingIOError:
            os.set_blocking(self.write_end, True)


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stderr]:
    """Send the log to a pipe of this test."""
    pipe = Stderr()
    monkeypatch.setattr(logs, "STDERR", pipe.write_end)
    yield pipe
    logger.remove()
    logger.configure(extra={})
    os.close(pipe.read_end)
    os.close(pipe.write_end)


def fail(depth: int) -> None:
    """Raise an error with two lines, *depth* calls below this one."""
    if depth:
        fail(depth - 1)
    raise ValueError("first\nsecond")


def test_a_text_line(stderr: Stderr) -> None:
    """A text line has the time, the level, the process, the message and the fields."""
    logs.set_up("monitor", Format.TEXT, Level.INFO)
    logger.info("Xid", uuid="GPU-1", xid=79, gi=None, why="it is broken", reasons=["a", "b"])
    fields = 'uuid=GPU-1 xid=79 gi=null why="it is broken" reasons=["a", "b"]'
    expected = rf"{TIME} INFO    monitor: Xid {re.escape(fields)}"
    assert re.fullmatch(expected, stderr.line())


def test_a_json_line(stderr: Stderr) -> None:
    """A JSON line is one object with the time, the level, the message and the fields."""
    logs.set_up("worker nvidia.com/gpu", Format.JSON, Level.INFO)
    logger.warning("Xid", uuid="GPU-1", xid=79, gi=None, reasons=["a", "b"])
    entry = stderr.entry()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+[+-]\d\d:\d\d", entry.pop("time"))
    assert entry == {
        "level": "warning",
        "message": "Xid",
        "process": "worker nvidia.com/gpu",
        "uuid": "GPU-1",
        "xid": 79,
        "gi": None,
        "reasons": ["a", "b"],
    }


def test_new_lines_do_not_break_a_text_line(stderr: Stderr) -> None:
    """A text line stays one line when its message or a field has line breaks."""
    logs.set_up("monitor", Format.TEXT, Level.INFO)
    logger.info("one\ntwo", error="three\nfour", last="a\nb c")
    assert stderr.line().endswith('monitor: one two error="three\\nfour" last="a\\nb c"')


def test_new_lines_are_kept_in_a_json_line(stderr: Stderr) -> None:
    """A JSON line stays one line, and its message and fields keep their line breaks."""
    logs.set_up("monitor", Format.JSON, Level.INFO)
    logger.info("one\ntwo", error="three\nfour")
    entry = stderr.entry()
    assert (entry["message"], entry["error"]) == ("one\ntwo", "three\nfour")


def trace(depth: int) -> str:
    """Return a pattern for the frames of `fail` at *depth*, innermost first."""
    frames = [rf"{re.escape(__file__)}:\d+"] * (depth + 2)
    return rf"\[ValueError: first.second at {' < '.join(frames)}\]"


def log_failure(depth: int) -> None:
    """Log an exception that was raised *depth* calls deep."""
    try:
        fail(depth)
    except ValueError:
        logger.exception("crashed")


def test_an_exception_is_part_of_the_text_line(stderr: Stderr) -> None:
    """An exception's type, message and frames are at the end of the text line."""
    logs.set_up("monitor", Format.TEXT, Level.INFO)
    log_failure(2)
    assert re.fullmatch(rf"{TIME} ERROR   monitor: crashed {trace(2)}", stderr.line())


def test_a_group_of_exceptions_shows_the_first(stderr: Stderr) -> None:
    """The log line of an exception group shows the exception in it, not the group."""
    logs.set_up("monitor", Format.TEXT, Level.INFO)

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.wait_for(asyncio.sleep(10), -1))

    try:
        asyncio.run(together())
    except ExceptionGroup:
        logger.exception("crashed")

    assert re.search(r"crashed \[TimeoutError:  at ", stderr.line())


def test_an_exception_is_part_of_the_json_message(stderr: Stderr) -> None:
    """An exception's type, message and frames are in the JSON line's message."""
    logs.set_up("monitor", Format.JSON, Level.INFO)
    log_failure(1)
    assert re.fullmatch(rf"crashed {trace(1)}", stderr.entry()["message"], re.DOTALL)


@pytest.mark.parametrize(
    ("level", "written"),
    [
        (Level.DEBUG, ["debug", "info", "warning", "error"]),
        (Level.INFO, ["info", "warning", "error"]),
        (Level.WARNING, ["warning", "error"]),
        (Level.ERROR, ["error"]),
    ],
)
def test_levels(stderr: Stderr, level: Level, written: list[str]) -> None:
    """Only lines at or above the configured level are written."""
    logs.set_up("monitor", Format.JSON, level)
    for name in ("debug", "info", "warning", "error"):
        logger.log(name.upper(), "a line")
    assert [json.loads(line)["level"] for line in stderr.lines()] == written


def test_setting_up_again_replaces_the_old_log(stderr: Stderr) -> None:
    """A child that sets up its log again writes each line once, with its own name."""
    logs.set_up("supervisor", Format.TEXT, Level.DEBUG)
    logs.set_up("monitor", Format.JSON, Level.INFO)
    logger.info("hello")
    assert stderr.entry()["process"] == "monitor"


@pytest.mark.parametrize("form", Format)
def test_a_full_pipe_drops_lines(stderr: Stderr, form: Format) -> None:
    """A full pipe drops lines without waiting; the next line says how many were dropped."""
    logs.set_up("monitor", form, Level.INFO)
    stderr.fill()
    for _ in range(3):
        logger.info("lost")
    stderr.lines()
    logger.info("found")
    line = stderr.line()
    assert "found" in line
    assert "lost" not in line
    assert ('"dropped_lines": 3' if form is Format.JSON else "dropped_lines=3") in line
    logger.info("after")
    assert "dropped_lines" not in stderr.line()


def test_a_closed_pipe_drops_lines(stderr: Stderr) -> None:
    """Logging to a pipe without a reader raises nothing."""
    logs.set_up("monitor", Format.TEXT, Level.INFO)
    read_end, stderr.read_end = stderr.read_end, os.open(os.devnull, os.O_RDONLY)
    os.close(read_end)
    logger.info("lost")
    assert stderr.lines() == []


@pytest.mark.parametrize("form", list(Format))
def test_a_long_line_is_shortened_to_one_atomic_write(stderr: Stderr, form: Format) -> None:
    """A line is shortened field by field to the size that a pipe takes in one piece."""
    logs.set_up("monitor", form, Level.INFO)
    logger.info("x" * 10_000, devices=["GPU-\N{GREEK SMALL LETTER MU}"] * 1000, uuid="GPU-1")
    line = stderr.line()

    assert len(line.encode()) + 1 <= select.PIPE_BUF
    assert "GPU-1" in line
    assert form is Format.TEXT or json.loads(line)["uuid"] == "GPU-1"


def test_a_librarys_log_has_our_format(stderr: Stderr) -> None:
    """What a library logs with Python's logging is one line in our format."""
    logs.set_up("exporter", Format.JSON, Level.INFO)
    before, logging.root.handlers = logging.root.handlers, []  # pytest's handlers
    try:
        logging.getLogger("some.library").error("cannot {} %s", "decode", exc_info=ValueError("x"))
    finally:
        logging.root.handlers = before
    entry = stderr.entry()
    assert (entry["level"], entry["library"]) == ("error", "some.library")
    assert entry["message"].startswith("cannot {} decode")
