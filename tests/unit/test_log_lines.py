"""The monitor's log lines about a device: one for each state; a recovery is INFO."""

from collections.abc import Iterator

import pytest
from loguru import logger

from health import log_lines
from health.condition import LOST, Condition, Look
from health.inventory import UNANSWERED
from health.nvml import XidEvent
from health.xid_log import Repeated
from proto.messages import FailedGpu
from proto.monitor import Recovery
from proto.reasons import Reason, ReasonKind
from tests.unit.builders import condition_after, gpu, inventory

XID = Reason(ReasonKind.XID, "79")
UNHEALTHY = condition_after({1: XID}, Recovery())
RECOVERED = condition_after({1: XID, 2: Look(action=0)}, Recovery(quiet_period=0.0, probes=1))
Lines = list[tuple[str, str]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Return a list that collects level and message of the logged lines."""
    found: Lines = []
    sink = logger.add(
        lambda line: found.append((line.record["level"].name, line.record["message"]))
    )
    yield found
    logger.remove(sink)


CHANGES = {
    "a fault": (Condition(), UNHEALTHY, "WARNING", "device is unhealthy"),
    "one more fault": (
        UNHEALTHY,
        condition_after({1: XID, 2: Reason(ReasonKind.XID, "48")}, Recovery()),
        "WARNING",
        "device is unhealthy",
    ),
    "a failed check": (
        Condition(),
        condition_after({1: Look(failed="busy")}, Recovery()),
        "WARNING",
        "device is suspect: one more failed check makes it unhealthy",
    ),
    "a loss": (
        Condition(),
        condition_after({1: LOST}, Recovery()),
        "WARNING",
        "device is lost: the driver cannot reach it",
    ),
    "a proof": (
        UNHEALTHY,
        condition_after({1: XID, 2: Look(action=0)}, Recovery()),
        "INFO",
        "device is recovering: waiting for the quiet period to end",
    ),
    "a recovery": (
        UNHEALTHY,
        RECOVERED,
        "INFO",
        "device is healthy again",
    ),
}


@pytest.mark.parametrize(
    ("before", "after", "level", "message"), CHANGES.values(), ids=CHANGES.keys()
)
def test_a_change_is_one_line(
    lines: Lines, before: Condition, after: Condition, level: str, message: str
) -> None:
    """Each device that changed is one log line; unchanged devices are not logged."""
    log_lines.changes({"A": before, "B": UNHEALTHY}, {"A": after, "B": UNHEALTHY})
    assert lines == [(level, message)]


def test_faults_from_before_a_restart_are_logged_as_old(lines: Lines) -> None:
    """After a restart of the monitor, known faults are logged as faults from before it."""
    log_lines.restored({"A": UNHEALTHY, "B": Condition(), "C": RECOVERED})
    assert lines == [("WARNING", "device still has faults from before the restart")]


def test_a_fault_that_recovers_over_a_restart_is_information(lines: Lines) -> None:
    """A device that recovers already needs nobody, also right after a restart."""
    recovering = condition_after({1: XID, 2: Look(action=0)}, Recovery())
    log_lines.restored({"A": recovering})
    assert lines == [("INFO", "device still has faults from before the restart")]


@pytest.mark.parametrize(
    ("fatal", "message"),
    [
        (True, "the driver reported a fatal Xid"),
        (False, "the driver reported an Xid that is not fatal"),
    ],
)
def test_an_xid_is_a_warning(lines: Lines, message: str, *, fatal: bool) -> None:
    """Each Xid is a warning that says whether it is fatal."""
    log_lines.xid(XidEvent("A", None, None, 79), "A", fatal=fatal)
    assert lines == [("WARNING", message)]


def test_a_repeated_xid_is_a_warning_with_the_count() -> None:
    """The line about a repeated Xid says of which GPU, how often, and in how many seconds."""
    fields: dict[str, object] = {}
    sink = logger.add(lambda line: fields.update(line.record["extra"]))
    log_lines.xid_repeated(Repeated(None, 31, count=995, seconds=10), fatal=False)
    logger.remove(sink)
    wanted = {"uuid": "unknown", "xid": 31, "count": 995, "seconds": 10, "fatal": False}
    assert wanted.items() <= fields.items()  # other tests bind more fields to the logger


def test_a_gpu_that_has_not_answered_yet_is_no_error(lines: Lines) -> None:
    """It may only be slow. That it fails, or that its call hangs, is an error, once."""
    slow = inventory(failed=(FailedGpu(3, UNANSWERED),))
    hanging = inventory(failed=(FailedGpu(3, "nvmlDeviceGetName does not return"),))
    log_lines.inventory(None, slow)
    assert lines == []
    log_lines.inventory(slow, hanging)
    log_lines.inventory(hanging, hanging)
    log_lines.inventory(hanging, inventory(gpu(3)))
    assert lines == [
        ("ERROR", "cannot enumerate a GPU"),
        ("INFO", "a GPU that failed before can be enumerated now"),
    ]
