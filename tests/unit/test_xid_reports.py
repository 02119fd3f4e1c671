"""The Xids of NVML and the kernel log together: counts, sources and log lines."""

from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from health.kernel_log import LoggedXid, SXid
from health.nvml import XidEvent
from health.xid_reports import XidReports
from proto.messages import XidCount
from proto.monitor import XidPolicy
from proto.sxids import SXidCount

NVML = XidEvent("handle", None, None, 149)
HARMLESS = LoggedXid("0000:01:00.0", 149, detail="RLW", fatal=False, unit="RLW", link=3)
MORE = "the kernel log has more about an Xid"
FATAL = "the driver reported a fatal Xid"
NOT_FATAL = "the driver reported an Xid that is not fatal"


@pytest.fixture
def lines() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Return the log lines: message and fields."""
    found: list[tuple[str, dict[str, Any]]] = []
    sink = logger.add(lambda line: found.append((line.record["message"], line.record["extra"])))
    yield found
    logger.remove(sink)


def test_nvml_first(lines: list[tuple[str, dict[str, Any]]]) -> None:
    """The second report adds a line with its details, and no count."""
    reports = XidReports(XidPolicy())
    assert reports.nvml("A", NVML, 1.0, 100.0)
    reports.log(1.0)
    report = reports.kernel("A", HARMLESS, 1.1, 100.1)
    assert (report.news, report.others) == (False, False)
    reports.log(1.1)
    assert [message for message, _ in lines] == [FATAL, MORE]
    assert lines[1][1] == {
        "uuid": "A",
        "xid": 149,
        "fatal": False,
        "detail": "RLW",
        "process": "",
        "pid": None,
        "link": 3,
        "unit": "RLW",
        "sub_code": None,
    }
    assert reports.counts() == (XidCount("A", 149, 1, 100.0, {"both": 1}),)


def test_the_log_first(lines: list[tuple[str, dict[str, Any]]]) -> None:
    """The log's report has the line with the right severity; NVML's adds nothing."""
    reports = XidReports(XidPolicy())
    report = reports.kernel("A", HARMLESS, 1.0, 100.0)
    assert report.news
    assert not reports.nvml("A", NVML, 1.1, 100.1)
    reports.log(1.1)
    assert [message for message, _ in lines] == [NOT_FATAL, MORE]
    assert reports.counts() == (XidCount("A", 149, 1, 100.0, {"both": 1}),)


def test_nvml_has_told_of_more() -> None:
    """A report of the log tells whether NVML has told of another Xid of this number."""
    reports = XidReports(XidPolicy())
    reports.nvml("A", NVML, 1.0, 100.0)
    reports.nvml("A", NVML, 1.0, 100.0)
    assert reports.kernel("A", HARMLESS, 1.1, 100.1).others
    assert not reports.kernel("A", HARMLESS, 1.1, 100.1).others


def test_one_source_is_certain_later() -> None:
    """Who alone told of an Xid is shown 2 s later, without another event."""
    reports = XidReports(XidPolicy())
    reports.nvml("A", NVML, 1.0, 100.0)
    reports.kernel("B", HARMLESS, 2.0, 101.0)
    reports.log_repeated(3.0)
    assert [count.sources for count in reports.counts()] == [{"nvml": 1}, {}]
    reports.log_repeated(4.0)
    assert [count.sources for count in reports.counts()] == [{"nvml": 1}, {"kernel": 1}]


def test_a_storm_has_few_lines(lines: list[tuple[str, dict[str, Any]]]) -> None:
    """In a storm that both tell, neither Xids nor details nor SXids have a line each."""
    reports = XidReports(XidPolicy())
    switch = SXid("0000:c3:00.0", 12028, fatal=False, link=32, detail="x")
    for _ in range(100):
        reports.nvml("A", NVML, 1.0, 100.0)
        reports.kernel("A", HARMLESS, 1.0, 100.0)
        reports.switch(switch)
        reports.log(1.0)
    reports.end(2.0)
    messages = [message for message, _ in lines]
    assert messages.count(FATAL) == messages.count(MORE) == 5
    assert messages.count("an NVSwitch reported an error that is not fatal") == 5
    assert messages[-2:] == ["the driver repeated an Xid", "an NVSwitch repeated an error"]
    assert lines[-1][1] == {"switch": "0000:c3:00.0", "sxid": 12028, "count": 95, "seconds": 1}
    assert reports.sxids() == (SXidCount("0000:c3:00.0", 12028, fatal=False, count=100),)
