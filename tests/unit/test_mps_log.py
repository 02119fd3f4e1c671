"""The log of an MPS daemon: what its lines mean, which are passed on, and how it is followed."""

import errno
import itertools
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from supervisor.mps import log_lines, log_tail
from supervisor.mps.log_lines import Author, Line, Told
from supervisor.mps.log_tail import AT_FIRST, LARGEST, OUTPUT, TOO_LARGE, LogTail
from tests.hardware.programs import PATIENCE

CONVERSATION = """\
[2026-11-26 10:00:00.001 Control  4711] Accepting connection...
[2026-11-26 10:00:00.002 Control  4711] NEW UI
[2026-11-26 10:00:00.003 Control  4711] Cmd:ps
[2026-11-26 10:00:00.004 Control  4711] PID       ID        SERVER
12        1         4712
[2026-11-26 10:00:00.005 Control  4711] NEW CLIENT 13 from user 1000: Server already exists
[2026-11-26 10:00:00.006 Control  4711] UI closed
[2026-11-26 10:00:00.007 Control  4711] Cmd:set_default_active_thread_percentage 25
[2026-11-26 10:00:00.008 Control  4711] 25.0
[2026-11-26 10:00:00.009 Server  4712] Client process 13 disconnected
[2026-11-26 10:00:00.010 Control  4711] Server 4712 exited with status 0
"""

KEPT = [
    "NEW CLIENT 13 from user 1000: Server already exists",
    "Cmd:set_default_active_thread_percentage 25",
    "25.0",
    "Client process 13 disconnected",
    "Server 4712 exited with status 0",
]


@pytest.fixture
def passed() -> Iterator[list[str]]:
    """Collect the lines that are passed on to our log."""
    lines: list[str] = []
    logger.remove()
    number = logger.add(lambda message: lines.append(message.record["extra"].get("text", "")))
    yield lines
    logger.remove(number)


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[LogTail]:
    """Follow the log in a folder."""
    tail = LogTail(str(tmp_path), "GPU-1")
    yield tail
    tail.close()


def test_a_line_says_who_wrote_it() -> None:
    """A line without a head is somebody's, too."""
    assert log_lines.parsed("[2026-11-26 10:00:00.001 Server    12] a [b] c") == Line(
        Author.SERVER, 12, "a [b] c"
    )
    assert log_lines.parsed("[odd") == Line(Author.UNKNOWN, 0, "[odd")


def test_the_keepers_own_questions_are_not_passed_on(tail: LogTail, passed: list[str]) -> None:
    """Neither are the answers to them; everything else is."""
    (tail._folder / OUTPUT).write_text(CONVERSATION)  # noqa: SLF001
    assert tail.read()
    assert passed == KEPT
    assert tail.told.departed == {4712}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (Line(Author.SERVER, 1, "Client process 13 disconnected"), True),
        (Line(Author.SERVER, 1, "Client {PID: 1, Context ID: 1} exiting. Number is 0."), True),
        (Line(Author.CONTROL, 1, "Client process 13 disconnected"), False),
        (Line(Author.SERVER, 1, "Server is handling a fatal GPU error."), True),
        (Line(Author.CONTROL, 1, "NEW SERVER 4712: Ready"), True),
        (Line(Author.SERVER, 1, "Server has started"), False),
    ],
)
def test_which_lines_call_for_a_look(line: Line, expected: bool) -> None:  # noqa: FBT001 - a case
    """The end of a client, and what changes the state of the server."""
    assert log_lines.calls(line) is expected


def test_only_the_newest_servers_are_remembered() -> None:
    """However many servers a daemon had, what is remembered of them stays short."""
    told = Told()
    for pid in range(1, 500):
        told = log_lines.after(told, Line(Author.SERVER, pid, "Client process 13 disconnected"))
    assert 499 in told.departed
    assert len(told.departed) <= log_lines.KEPT + 1


def test_lines_come_in_pieces(tail: LogTail, passed: list[str]) -> None:
    """Half a line is passed on when the rest has come."""
    with (tail._folder / OUTPUT).open("a") as file:  # noqa: SLF001
        for piece in ("on", "e\ntw", "o\n"):
            file.write(piece)
            file.flush()
            tail.read()
    assert passed == ["one", "two"]


def test_a_file_is_replaced_or_emptied(tail: LogTail, passed: list[str]) -> None:
    """Whoever rotates or truncates the file, its lines are passed on."""
    path = tail._folder / OUTPUT  # noqa: SLF001
    for text in ("one", "two"):
        new = path.with_suffix(".new")
        new.write_text(f"{text}\n")
        new.rename(path)
        tail.read()
    os.truncate(path, 0)
    tail.read()
    with path.open("a") as file:
        file.write("3\n")
    tail.read()
    assert passed == ["one", "two", "3"]


def test_too_many_lines_are_left_out(tail: LogTail, passed: list[str]) -> None:
    """A client that writes on and on does not fill our log; the next second has room again."""
    path = tail._folder / OUTPUT  # noqa: SLF001
    path.write_text("".join(f"{number}\n" for number in range(AT_FIRST + 50)))
    tail.read()
    assert len(passed) == AT_FIRST
    tail.each_second()
    with path.open("a") as file:
        file.write("later\n")
    tail.read()
    assert passed[-1] == "later"


def test_a_long_file_is_moved(tail: LogTail, tmp_path: Path, passed: list[str]) -> None:
    """A daemon writes on at the end of the emptied file, and what it wrote before is kept once."""
    with os.fdopen(tail.fresh(), "ab", buffering=0) as output:
        output.write(b"x" * 1000 + b"\n")
        tail.read()
        os.truncate(tmp_path / OUTPUT, LARGEST + 1)
        tail.each_second()
        assert (tmp_path / OUTPUT).stat().st_size == 0
        assert (tmp_path / f"{OUTPUT}.1").stat().st_size > LARGEST
        tail.read()
        output.write(b"after\n")
        tail.read()
    assert passed[-1] == "after"


def test_a_flood_is_stopped_at_once(tail: LogTail, tmp_path: Path, passed: list[str]) -> None:
    """The file is emptied as soon as the keeper wakes up, and the daemon writes on."""
    with os.fdopen(tail.fresh(), "ab", buffering=0) as output:
        output.write(b"first\n")
        tail.read()
        os.truncate(tmp_path / OUTPUT, TOO_LARGE + 1)
        tail.read()
        assert (tmp_path / OUTPUT).stat().st_size == 0
        output.write(b"after\n")
        tail.read()
    assert (passed, [*tmp_path.glob("*.1")]) == (["first", "after"], [])


def test_a_file_may_grow_faster_than_it_is_copied(
    tail: LogTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was there is copied: the keeper does not copy for as long as somebody writes."""
    path, send = tmp_path / OUTPUT, os.sendfile

    def grow(out: int, source: int, at: int, count: int) -> int:
        os.truncate(path, path.stat().st_size + count)
        return send(out, source, at, min(count, LARGEST // 4))

    monkeypatch.setattr(os, "sendfile", grow)
    path.write_bytes(b"x\n" * (LARGEST // 2 + 1))
    tail.read()
    tail.each_second()
    assert (tmp_path / f"{OUTPUT}.1").stat().st_size == LARGEST + 2
    assert path.stat().st_size == 0


def test_a_deleted_file_is_emptied_too(tail: LogTail, tmp_path: Path, passed: list[str]) -> None:
    """A daemon goes on writing to a file that somebody has deleted, and could fill the disk."""
    path = tmp_path / OUTPUT
    with path.open("ab", buffering=0) as daemon:
        daemon.write(b"before\n")
        tail.read()
        path.unlink()
        os.truncate(daemon.fileno(), TOO_LARGE + 1)  # without using a disk
        tail.read()
        assert os.fstat(daemon.fileno()).st_size == 0
        daemon.write(b"after\n")
    tail.read()
    assert passed == ["before", "after"]


@pytest.mark.parametrize("what", ["fifo", "folder", "link"])
def test_what_is_no_file_is_left_alone(
    what: str, tail: LogTail, tmp_path: Path, passed: list[str]
) -> None:
    """Nothing but a file is read as a log, and what a link points to is neither read nor emptied.

    The file that the daemon writes to is followed on.
    """
    path, precious = tmp_path / OUTPUT, tmp_path / "precious"
    precious.write_text("precious")
    daemon = path.open("ab", buffering=0)
    daemon.write(b"before\n")
    tail.read()
    path.unlink()
    for put in (path, tmp_path / "control.log"):
        match what:
            case "fifo":
                os.mkfifo(put)
            case "folder":
                put.mkdir()
            case _:
                put.symlink_to(precious)
    with daemon:
        os.truncate(daemon.fileno(), TOO_LARGE + 1)
        tail.read()
        daemon.write(b"after\n")
    for _ in range(2):
        tail.read()
        tail.each_second()
    assert passed == ["before", "after"]
    assert tail.last_words() == ""
    assert precious.read_text() == "precious"
    tail.catch_up()
    os.close(tail.fresh())


def test_without_inotify_the_log_is_read_each_second(
    tmp_path: Path, passed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No inotify instance is left on the node: a daemon is kept all the same."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(log_tail, "INotify", refused)
    tail = LogTail(str(tmp_path), "GPU-1")
    assert tail.fileno() < 0
    os.close(tail.fresh())
    (tmp_path / OUTPUT).write_text("one\n")
    tail.read()
    tail.close()
    assert passed[-1] == "one"


def test_a_new_folder_is_watched(tail: LogTail, tmp_path: Path) -> None:
    """Somebody has removed the folder: the log of the next daemon is read as soon as before."""
    tmp_path.rmdir()
    tmp_path.mkdir()
    os.close(tail.fresh())
    tail.read()
    (tmp_path / OUTPUT).write_text("one\n")
    assert select.select([tail.fileno()], [], [], PATIENCE)[0]


def test_a_full_disk_is_named(
    tail: LogTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that cannot write would end without a word."""

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space left on device") as error:
        tail.fresh()
    assert error.value.filename == str(tmp_path / OUTPUT)


def test_a_new_daemon_has_a_new_file(tail: LogTail, tmp_path: Path, passed: list[str]) -> None:
    """What the last daemon wrote is kept beside it, and not read again."""
    for text in ("first", "second", "third"):
        with os.fdopen(tail.fresh(), "wb") as output:
            output.write(f"{text}\n".encode())
        tail.read()
    assert (tmp_path / OUTPUT).read_text() == "third\n"
    assert (tmp_path / f"{OUTPUT}.1").read_text() == "second\n"
    assert passed == ["first", "second", "third"]


def test_an_adopted_daemons_lines_are_not_passed_on_again(tail: LogTail, passed: list[str]) -> None:
    """But what they tell counts. However often it is read, the file is open once."""
    path = tail._folder / OUTPUT  # noqa: SLF001
    path.write_text(CONVERSATION)
    for _ in range(2):
        tail.catch_up()
        tail.read()
    assert [*map(os.path.realpath, Path("/proc/self/fd").iterdir())].count(str(path)) == 1
    assert passed == []
    assert tail.told.departed == {4712}


def test_the_last_words(tail: LogTail) -> None:
    """They say why a daemon did not start; without a file there are none."""
    assert tail.last_words() == ""
    (tail._folder / OUTPUT).write_text("[x Control  1] first\nAn instance is already running\n\n")  # noqa: SLF001
    assert tail.last_words() == "An instance is already running"


def test_hostile_lines() -> None:
    """Any text is a line."""
    for text in map("".join, itertools.product("[] C:", repeat=4)):
        line = log_lines.parsed(text)
        log_lines.shown(log_lines.after(Told(), line), line)
    assert log_tail.NAMES[0] == OUTPUT
