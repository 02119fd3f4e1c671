"""A kernel log that is a file: a thread reads it, so nothing that blocks there blocks the loop."""

import math
import os
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from health import kernel_log_file
from health.kernel_log import Event
from health.kernel_log_file import MOST_WAITING, FileLog, open_log
from health.kernel_log_reader import KMSG, MOST_EVENTS, KernelLog
from tests.unit.test_kernel_log_reader import codes, xid

GUARD = 30.0


def events(log: FileLog, count: int) -> list[Event]:
    """Return so many events, as the loop reads them: when the descriptor or the time says so."""
    found: list[Event] = []
    end = time.monotonic() + GUARD
    while len(found) < count and time.monotonic() < end:
        bell, due = log.wait()
        assert bell is not None
        select.select([bell], [], [], GUARD if due == math.inf else 0.01)
        more = log.read(time.monotonic())
        assert len(more) <= MOST_EVENTS
        found += more
    return found


def until(holds: Callable[[], object]) -> None:
    """Wait until *holds*; the thread rings no bell for it."""
    end = time.monotonic() + GUARD
    while not holds():
        assert time.monotonic() < end
        threading.Event().wait(0.01)


def test_which_logs_have_a_thread(tmp_path: Path) -> None:
    """The device and no log at all need no thread."""
    assert isinstance(open_log("", None), KernelLog)
    assert isinstance(open_log(KMSG, None), KernelLog)
    log = open_log(str(tmp_path / "log"), None)
    assert isinstance(log, FileLog)
    log.close()


def test_events_of_a_file(tmp_path: Path) -> None:
    """Events come in order, in turns of limited length, and the newest record is that of the last.

    A storm fills no memory: the thread waits for the loop.
    """
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    log = FileLog(str(path), None)
    until(lambda: log.readable)
    with path.open("wb", buffering=0) as end:

        def storm() -> None:
            for number in range(3 * MOST_WAITING):
                end.write(xid(number, 1 + number % 100))

        writer = threading.Thread(target=storm)
        writer.start()
        found = events(log, 3 * MOST_WAITING)
        writer.join(GUARD)
    assert codes(found) == [1 + number % 100 for number in range(3 * MOST_WAITING)]
    assert (log.newest, log.lost) == (3 * MOST_WAITING - 1, 0)
    assert log.read(0.0) == []
    assert log.wait()[1] == math.inf
    log.close()


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """A missing file is no log, and the loop goes on."""
    log = FileLog(str(tmp_path / "missing"), 7)
    until(lambda: log._log is not None)  # noqa: SLF001
    assert not log.readable
    assert (log.read(1.0), log.newest, log.lost) == ([], 7, 0)
    log.close()


def test_a_dead_share_blocks_only_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While opening the file does not return, the loop reads nothing and goes on."""
    entered, answer = threading.Event(), threading.Event()

    class Dead(KernelLog):
        def __init__(self, path: str, after: int | None) -> None:
            entered.set()
            answer.wait(GUARD)
            super().__init__(path, after)

    monkeypatch.setattr(kernel_log_file, "KernelLog", Dead)
    log = FileLog(str(tmp_path / "missing"), 3)
    assert entered.wait(GUARD)
    assert (log.readable, log.read(0.0), log.newest) == (False, [], 3)
    answer.set()
    until(lambda: log._log is not None)  # noqa: SLF001
    log.close()
