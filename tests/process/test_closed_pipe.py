"""A reader closes the pipe before a command has printed everything, as `head` does."""

import asyncio
import os
import signal
from pathlib import Path
from typing import TextIO

import pytest

from tests.fakes import commands
from tests.fakes.service import COMMAND, PATIENCE

RESULTS = [
    ("--help",),
    ("--version",),
    ("run", "--help"),
    ("check-config",),
    ("xids",),
    ("xids", "--json"),
]
"""Commands that print and end; test_status.py has the test for `status`, which needs a service."""


def closed_pipe() -> int:
    """Return the writing end of a pipe that has no reader."""
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize("words", RESULTS, ids=" ".join)
def test_a_command_whose_reader_is_gone(words: tuple[str, ...]) -> None:
    """The command ends with SIGPIPE, as other commands do, and prints nothing on stderr."""
    with os.fdopen(closed_pipe(), "wb") as nobody:
        done = commands.run(*words, stdout=nobody.fileno())

    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


@pytest.mark.parametrize("words", RESULTS, ids=" ".join)
def test_a_command_whose_disk_is_full(words: tuple[str, ...]) -> None:
    """The command says in one line that it cannot print, and exits with 1."""
    with Path("/dev/full").open("wb") as full:
        done = commands.run(*words, stdout=full.fileno())

    told = "cannot print: No space left on device; make room, or print elsewhere\n"
    assert (done.returncode, done.stderr) == (1, told)


def read_up_to(start: str, lines: TextIO) -> None:
    """Read lines up to the line that begins with *start*; read nothing if *start* is empty."""
    if start:
        assert any(line.startswith(start) for line in lines)


@pytest.mark.parametrize("last", ["", "registered", "following"])
def test_a_simulation_whose_reader_is_gone(folder: Path, last: str) -> None:
    """`simulate` ends as after Ctrl-C when its reader is gone, and leaves no process or file."""

    async def story() -> None:
        read, write = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            "simulate",
            stdout=write,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        os.close(write)
        with os.fdopen(read) as lines:
            await asyncio.to_thread(read_up_to, last, lines)
        try:
            _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()

        assert (process.returncode, said) == (0, b"")

    asyncio.run(story())
    assert [*folder.iterdir()] == []
