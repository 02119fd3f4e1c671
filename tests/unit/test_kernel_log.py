"""Lines of the kernel log: what each tells, and that none can be imitated, raises or takes long."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from health import kernel_log
from health.kernel_log import LONGEST, LONGEST_DETAIL, LONGEST_NAME, Event, LoggedXid
from tests.unit.kernel_lines import NOTHING, OTHERS, XIDS

KNOWN: list[tuple[str, Event]] = [*XIDS, *OTHERS]
LOST = "NVRM: Xid (PCI:0000:01:00): 79, GPU has fallen off the bus."
ENOUGH = 0.5
"""CPU seconds: far more than 2000 lines of any kind take, and far less than they take squared."""


def record(text: str, priority: int = 3) -> bytes:
    """Return the record of /dev/kmsg with *text*, with a property after it."""
    return f"{priority},4471,3023054882,-;{text}\n SUBSYSTEM=pci\n".encode()


def test_the_table_is_long_enough() -> None:
    """There are at least forty lines that tell something, and each is there once."""
    lines = [line for line, _ in KNOWN]
    assert len(lines) >= 40
    assert len({*lines}) == len(lines)


@pytest.mark.parametrize(("line", "event"), KNOWN, ids=[line[6:60] for line, _ in KNOWN])
def test_a_known_line(line: str, event: Event) -> None:
    """A line tells its event, as a record of the kernel and in a text file."""
    assert kernel_log.parse(line) == event
    assert kernel_log.event_of(record(line)) == event
    assert kernel_log.event_of(line.encode()) == event


@pytest.mark.parametrize("line", NOTHING, ids=[line[:50] for line in NOTHING])
def test_a_line_that_tells_nothing(line: str) -> None:
    """A line that only looks like one of these tells nothing."""
    assert kernel_log.parse(line) is None
    assert kernel_log.event_of(record(line)) is None


@pytest.mark.parametrize(
    "head",
    [
        "[   38.174242] ",
        "[Fri Aug 30 11:43:09 2024] ",
        "<3>",
        "<3>[   38.174242] ",
        "May 10 22:25:01 jambi kernel: [176830.774761] ",
        "2026-09-14T19:58:20-0400 host.example kernel: ",
        "kern  :err   : 2025-01-25T10:34:54,859532+00:00 ",
        "2024-01-15T03:00:00,000000+00:00 ",
        "kernel: ",
        "kernel: [123.456789] ",
        "[  123.456789] host.example kernel: ",
    ],
)
def test_what_tools_write_before_a_line(head: str) -> None:
    """The times and names that dmesg, syslog and journalctl write before a line are no part."""
    assert kernel_log.event_of(f"{head}{LOST}".encode()) == kernel_log.parse(LOST)


@pytest.mark.parametrize("priority", [8, 11, 15, 30, 187])
def test_a_process_cannot_write_such_a_record(priority: int) -> None:
    """A record with another facility than that of the kernel tells nothing."""
    assert kernel_log.event_of(record(LOST, priority)) is None
    assert kernel_log.event_of(f"<{priority}>{LOST}".encode()) is None


@pytest.mark.parametrize(
    "line",
    [
        f"May 10 22:25:01 host app[12]: kernel: {LOST}",
        f"6,1,1,-;docker: {LOST}",
        f"6,1,1,-;a\n{LOST}",
        f"[12] app: {LOST}",
    ],
)
def test_a_line_of_a_process_in_a_log_of_all(line: str) -> None:
    """A line counts only if nothing but the known heads is before it."""
    assert kernel_log.event_of(line.encode()) is None


def test_the_sequence_number() -> None:
    """A record has its number, a line of text has none."""
    assert kernel_log.sequence(record(LOST)) == 4471
    assert kernel_log.sequence(LOST.encode()) is None


@given(name=st.text(max_size=15))
@example(name="a, RLW Nonfatal")
@example(name="R Nonfatal XC0 ")
@example(name=", 45, name=x, ")
def test_the_name_of_a_process_decides_nothing(name: str) -> None:
    """Whatever a process calls itself, code, place and severity are the driver's."""
    word = "RLW_SRC_TRACK Fatal XC1 i0 Link 03 (0x040868e2 0x00000008)"
    event = kernel_log.parse(f"NVRM: Xid (PCI:0000:01:00): 145, pid=1, name={name}, {word}")
    assert isinstance(event, LoggedXid)
    told = (event.pci, event.xid, event.fatal, event.unit, event.link)
    assert told == ("0000:01:00.0", 145, True, "RLW_SRC_TRACK", 3)


def test_texts_are_bounded() -> None:
    """Detail and name of an event are cut."""
    event = kernel_log.parse("NVRM: Xid (PCI:0000:01:00): 13, pid=1, name=a, " + "x" * 9999)
    assert isinstance(event, LoggedXid)
    assert event.detail == "x" * LONGEST_DETAIL
    assert len(event.name) <= LONGEST_NAME


STARTS = sorted({line[:cut] for line, _ in KNOWN for cut in range(0, len(line), 7)})


@given(st.sampled_from(STARTS), st.text(max_size=60), st.sampled_from([*NOTHING, *STARTS]))
def test_nothing_raises(start: str, middle: str, end: str) -> None:
    """Parts of lines in any order tell an event with short texts, or nothing."""
    event = kernel_log.event_of(record(start + middle + end))
    kernel_log.event_of((start + middle + end).encode(errors="surrogatepass"))
    if isinstance(event, LoggedXid):
        assert 0 < event.xid < 10**9
        assert len(event.detail) <= LONGEST_DETAIL


@pytest.mark.parametrize(
    "filler", [" ", "0", "a", ", ", "[", "(", " (0x0", " 0x0", "\\x0aNVRM:", "name=", "A Fatal "]
)
def test_long_lines_take_linear_time(filler: str) -> None:
    """The longest lines that begin as one of ours, or as one of a text file, take little time."""
    starts = [s for s in STARTS if len(s) % 14 == 0][:30]
    lines = [(start + filler * LONGEST)[: LONGEST * 2].encode() for start in starts]
    begun = time.process_time()
    for line in lines:
        kernel_log.event_of(line)
        kernel_log.event_of(b"3,1,1,-;" + line)
    assert time.process_time() - begun < ENOUGH
