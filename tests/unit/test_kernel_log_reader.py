"""Reading the kernel log: from where, how much in a turn, and what becomes of what cannot be."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from loguru import logger

from health.kernel_log import Event, LoggedXid
from health.kernel_log_reader import (
    FILE_PERIOD,
    KMSG,
    LONGEST_RECORD,
    MOST_EVENTS,
    MOST_LINES,
    PAUSE,
    KernelLog,
)


def xid(number: int, code: int = 79) -> bytes:
    """Return the record *number* with an Xid."""
    return b"3,%d,1,-;NVRM: Xid (PCI:0000:01:00): %d, x\n" % (number, code)


def other(number: int) -> bytes:
    """Return the record *number*, which tells nothing."""
    return b"6,%d,1,-;veth0: entered blocking state\n SUBSYSTEM=net\n" % number


def codes(events: list[Event]) -> list[int]:
    """Return the codes of Xids."""
    return [event.xid for event in events if isinstance(event, LoggedXid)]


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """Return the messages that are logged."""
    messages: list[str] = []
    sink = logger.add(lambda line: messages.append(line.record["message"]), level="WARNING")
    yield messages
    logger.remove(sink)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[tuple[str, Callable[[bytes], object]]]:
    """Return the path of a fifo, and a function that writes into it."""
    path = tmp_path / "kmsg"
    os.mkfifo(path)
    end = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    yield str(path), lambda data: os.write(end, data)
    os.close(end)


Answers = Callable[[Sequence[bytes | OSError]], None]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Return a function that sets what the reads of the device /dev/null give, in order."""

    def script(answers: Sequence[bytes | OSError]) -> None:
        left = iter(answers)

        def read(_fd: int, size: int) -> bytes:
            answer = next(left, BlockingIOError())
            if isinstance(answer, OSError):
                raise answer
            assert len(answer) <= size
            return answer

        monkeypatch.setattr(os, "read", read)

    return script


DEVICE = "/dev/null"


def test_the_real_log_is_read_from_its_end(warnings: list[str]) -> None:
    """/dev/kmsg is either read and waited for, or done without, which is no warning."""
    log = KernelLog(KMSG, None)
    assert not warnings
    log.read(0.0)
    assert (log.wait()[0] is not None) == log.readable


def test_the_real_log_is_read_from_where_a_monitor_was(warnings: list[str]) -> None:
    """After a restart, /dev/kmsg is read from its first record, in turns that end."""
    log = KernelLog(KMSG, 0)
    turns = 0
    while log.wait()[1] < float("inf") or not turns:
        log.read(float(turns))
        turns += 1
        assert turns < 1000
    assert not warnings


def test_a_record_of_the_device_at_a_time(device: Answers) -> None:
    """Each read gives a record; when there is none, the loop waits for the descriptor."""
    log = KernelLog(DEVICE, None)
    device([other(1), xid(2, 79), other(3), xid(4, 31)])
    assert log.wait()[0] is not None
    assert codes(log.read(5.0)) == [79, 31]
    assert log.newest == 4
    assert log.wait()[1] == float("inf")
    assert log.read(5.0) == []


def test_a_restart_skips_what_was_seen(device: Answers) -> None:
    """Records up to the newest event of the former monitor are skipped, later ones are not."""
    log = KernelLog(DEVICE, 4)
    device([xid(2, 79), other(3), xid(4, 31), other(5), xid(6, 48)])
    assert codes(log.read(0.0)) == [48]
    assert log.newest == 6


def test_lost_records_are_told_once_and_counted(device: Answers, warnings: list[str]) -> None:
    """When the kernel has overwritten records, the reader goes on and counts them."""
    log = KernelLog(DEVICE, None)
    device([other(1), BrokenPipeError(), BrokenPipeError(), xid(11), BrokenPipeError(), other(15)])
    assert codes(log.read(0.0)) == [79]
    assert log.lost == 9 + 3
    assert warnings == ["lost records of the kernel log: they came faster than they were read"]


@pytest.mark.parametrize("answer", [OSError(5, "Input/output error"), b""])
def test_a_device_that_fails_is_done_without(
    device: Answers, warnings: list[str], answer: bytes | OSError
) -> None:
    """A read that fails is told once; nothing is read or waited for from then on."""
    log = KernelLog(DEVICE, None)
    device([xid(1), answer, xid(2)])
    assert codes(log.read(0.0)) == [79]
    assert (log.readable, log.wait()) == (False, (None, float("inf")))
    assert log.read(1.0) == []
    assert warnings == ["cannot read the kernel log: only NVML tells of faults"]


@pytest.mark.parametrize("path", ["missing", "folder"])
def test_a_log_that_cannot_be_opened(tmp_path: Path, warnings: list[str], path: str) -> None:
    """A missing file and a folder are told once, and done without."""
    (tmp_path / "folder").mkdir()
    log = KernelLog(f"{tmp_path}/{path}", 7)
    assert (log.readable, log.wait()[0], log.read(0.0), log.newest) == (False, None, [], 7)
    assert warnings == ["cannot read the kernel log: only NVML tells of faults"]


def test_no_log_is_wanted(warnings: list[str]) -> None:
    """Without a path, nothing is read and nothing is told."""
    assert not KernelLog("", None).readable
    assert warnings == []


def test_a_flood_takes_turns(device: Answers) -> None:
    """A turn reads a limited number of lines and of events, and is followed by a pause."""
    log = KernelLog(DEVICE, None)
    device([other(n) for n in range(MOST_LINES)] + [xid(n) for n in range(2 * MOST_EVENTS)])
    assert log.read(5.0) == []
    assert log.wait() == (None, 5.0 + PAUSE)
    assert log.read(5.0 + PAUSE / 2) == []
    assert len(log.read(6.0)) == MOST_EVENTS
    assert log.wait() == (None, 6.0 + PAUSE)
    assert len(log.read(7.0)) == MOST_EVENTS
    assert log.read(8.0) == []
    assert log.wait()[0] is not None


def test_a_fifo(fifo: tuple[str, Callable[[bytes], object]]) -> None:
    """A fifo gives its lines as they come, in pieces too, and outlives its writers."""
    path, write = fifo
    log = KernelLog(path, None)
    assert log.read(0.0) == []
    write(xid(1, 79)[:20])
    assert log.read(0.0) == []
    write(xid(1, 79)[20:] + b"NVRM: Xid (PCI:0000:01:00): 31, y\n" + xid(2, 48)[:-1])
    assert codes(log.read(0.0)) == [79, 31]
    write(b"\n")
    assert codes(log.read(0.0)) == [48]
    assert log.newest == 2
    assert log.wait()[0] is not None


def test_a_line_that_is_too_long_is_no_line(
    fifo: tuple[str, Callable[[bytes], object]],
) -> None:
    """A line without an end takes little memory, and the line after it is read."""
    path, write = fifo
    log = KernelLog(path, None)
    for _ in range(5):
        write(xid(1)[:-1] + b"x" * LONGEST_RECORD)
        assert log.read(0.0) == []
    write(b"\n" + xid(2, 31))
    assert codes(log.read(0.0)) == [31]


def test_a_text_file_from_its_end(tmp_path: Path) -> None:
    """What is in a file at the start is old; what is added is read at the next look."""
    path = tmp_path / "kern.log"
    path.write_bytes(xid(1, 79))
    log = KernelLog(str(path), None)
    assert log.wait()[1] == 0.0
    assert log.read(1.0) == []
    assert log.wait() == (None, 1.0 + FILE_PERIOD)
    with path.open("ab") as file:
        file.write(b"May  1 10:00:00 host kernel: [ 1.5] NVRM: Xid (PCI:0000:01:00): 31, y\n")
    assert codes(log.read(2.0)) == [31]


def test_a_text_file_after_a_restart(tmp_path: Path) -> None:
    """Records with a higher number than that of the former monitor are new; other lines are old."""
    path = tmp_path / "kern.log"
    path.write_bytes(xid(1, 79) + b"NVRM: Xid (PCI:0000:01:00): 31, y\n" + xid(2, 48) + xid(3, 95))
    assert codes(KernelLog(str(path), 2).read(1.0)) == [95]


def test_a_file_that_wraps(tmp_path: Path) -> None:
    """A file that was replaced, or cut and filled again, is read from its start."""
    path = tmp_path / "kern.log"
    path.write_bytes(other(1) * 100)
    log = KernelLog(str(path), None)
    path.rename(tmp_path / "kern.log.1")
    assert log.read(0.0) == []  # it is being replaced
    path.write_bytes(xid(2, 48))
    assert log.read(1.0) == []
    assert codes(log.read(2.0)) == [48]
    path.write_bytes(b"")
    assert log.read(3.0) == []
    path.write_bytes(xid(3, 31))
    assert codes(log.read(4.0)) == [31]
    assert log.readable


def test_nothing_stays_open(tmp_path: Path) -> None:
    """A log that is replaced again and again keeps one descriptor."""
    path = tmp_path / "kern.log"
    path.write_bytes(b"")
    log = KernelLog(str(path), None)
    before = len([*Path("/proc/self/fd").iterdir()])
    for turn in range(20):
        path.unlink()
        path.write_bytes(xid(turn))
        log.read(float(turn))
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_second_of_lines_costs_less_than_half_a_core(device: Answers) -> None:
    """100,000 lines cost less than half a second of CPU time."""
    log = KernelLog(DEVICE, None)
    device([*(other(n) for n in range(99_999)), xid(99_999)])
    begun = time.process_time()
    found = [log.read(float(turn)) for turn in range(100)]
    assert time.process_time() - begun < 0.5
    assert codes(found[-1]) == [79]
