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
    """A pipe in the place of stderr."""

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
        """Return the one line that was written, without its end."""
        (line,) = self.lines()
        assert line.endswith("\n")
        return line[:-1]

    def entry(self) -> dict[str, Any]:
        """Return the one JSON line that was written."""
        entry: dict[str, Any] = json.loads(self.line())
        return entry

    def fill(self) -> None:
        """Let the pipe take no further line."""
        os.set_blocking(self.write_end, False)
        try:
            while True:
                os.write(self.write_end, b"x" * select.PIPE_BUF)
        except BlockingIOError:
            os.set_blocking(self.write_end, True)


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stderr]:
    """Let the log go to a pipe of this test."""
    pipe = Stderr()
    monkeypatch.setattr(logs, "STDERR", pipe.write_end)
    yield pipe
    logger.remove()
    logger.configure(extra={})
    os.close(pipe.read_end)
    os.close(pipe.write_end)


def fail(depth: int) -> None:
    """Raise an error that is that deep and has two lines."""
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
    """A text line stays one line when the message and a field have several."""
    logs.set_up("monitor", Format.TEXT, Level.INFO)
    logger.info("one\ntwo", error="three\nfour", last="a\nb c")
    assert stderr.line().endswith('monitor: one two error="three\\nfour" last="a\\nb c"')


def test_new_lines_are_kept_in_a_json_line(stderr: Stderr) -> None:
    """A JSON line stays one line, and whoever reads it gets the new lines back."""
    logs.set_up("monitor", Format.JSON, Level.INFO)
    logger.info("one\ntwo", error="three\nfour")
    entry = stderr.entry()
    assert (entry["message"], entry["error"]) == ("one\ntwo", "three\nfour")


def trace(depth: int) -> str:
    """Return what the frames of `fail` at that depth look like, the innermost first."""
    frames = [rf"{re.escape(__file__)}:\d+"] * (depth + 2)
    return rf"\[ValueError: first.second at {' < '.join(frames)}\]"


def log_failure(depth: int) -> None:
    """Log an exception."""
    try:
        fail(depth)
    except ValueError:
        logger.exception("crashed")


def test_an_exception_is_part_of_the_text_line(stderr: Stderr) -> None:
    """An exception does not break a text line: its type, words and frames are at the end."""
    logs.set_up("monitor", Format.TEXT, Level.INFO)
    log_failure(2)
    assert re.fullmatch(rf"{TIME} ERROR   monitor: crashed {trace(2)}", stderr.line())


def test_a_group_of_exceptions_tells_of_the_first(stderr: Stderr) -> None:
    """A task group's own words say nothing: the line has what happened in it."""
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
    """An exception does not break a JSON line: its type, words and frames are in the message."""
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
    """Lines below the level are not written, the others are."""
    logs.set_up("monitor", Format.JSON, level)
    for name in ("debug", "info", "warning", "error"):
        logger.log(name.upper(), "a line")
    assert [json.loads(line)["level"] for line in stderr.lines()] == written


def test_setting_up_again_replaces_what_was(stderr: Stderr) -> None:
    """A child that sets its log up anew writes each line once, under its own name."""
    logs.set_up("supervisor", Format.TEXT, Level.DEBUG)
    logs.set_up("monitor", Format.JSON, Level.INFO)
    logger.info("hello")
    assert stderr.entry()["process"] == "monitor"


@pytest.mark.parametrize("form", Format)
def test_a_full_pipe_costs_lines_not_time(stderr: Stderr, form: Format) -> None:
    """A line that the pipe cannot take is dropped; the next that it takes says how many were."""
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


def test_a_reader_that_is_gone_costs_lines_only(stderr: Stderr) -> None:
    """Logging to a pipe that nobody reads any more raises nothing."""
    logs.set_up("monitor", Format.TEXT, Level.INFO)
    read_end, stderr.read_end = stderr.read_end, os.open(os.devnull, os.O_RDONLY)
    os.close(read_end)
    logger.info("lost")
    assert stderr.lines() == []


@pytest.mark.parametrize("form", list(Format))
def test_a_line_is_never_longer_than_a_pipe_takes_in_one_piece(
    stderr: Stderr, form: Format
) -> None:
    """What is too long is shortened field by field, so that the line stays whole and one."""
    logs.set_up("monitor", form, Level.INFO)
    logger.info("x" * 10_000, devices=["GPU-\N{GREEK SMALL LETTER MU}"] * 1000, uuid="GPU-1")
    line = stderr.line()

    assert len(line.encode()) + 1 <= select.PIPE_BUF
    assert "GPU-1" in line
    assert form is Format.TEXT or json.loads(line)["uuid"] == "GPU-1"


def test_a_library_has_no_lines_of_another_form(stderr: Stderr) -> None:
    """What a library logs by itself, with a traceback or not, is one line of ours."""
    logs.set_up("exporter", Format.JSON, Level.INFO)
    before, logging.root.handlers = logging.root.handlers, []  # pytest's own
    try:
        logging.getLogger("some.library").error("cannot {} %s", "decode", exc_info=ValueError("x"))
    finally:
        logging.root.handlers = before
    entry = stderr.entry()
    assert (entry["level"], entry["library"]) == ("error", "some.library")
    assert entry["message"].startswith("cannot {} decode")
