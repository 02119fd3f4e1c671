"""When the service exits to get a new container."""

import msgspec
import pytest
from msgspec.structs import replace

from proto.control import NotReady
from proto.driver import DriverState
from proto.reasons import ReasonKind
from supervisor import give_up
from supervisor.give_up import NEVER_SERVED, SHOWN
from supervisor.state import Lost, Served

NOW, LIMIT = 1000.0, 60.0
DENIED = NotReady("no access", ReasonKind.NO_ACCESS, needs_restart=True)
OLD_LIBRARY = NotReady("old library", ReasonKind.NO_DRIVER, needs_restart=True)
NO_DRIVER = NotReady("no driver", ReasonKind.NO_DRIVER)
SERVED = Served(plans={})
NEWLY = Lost(NOW, "no access")


def lost(since: float, exits_since: float | None = None) -> Served:
    """Return a service that lost its GPUs so many seconds before NOW."""
    exits = None if exits_since is None else NOW - exits_since
    return replace(SERVED, lost=Lost(NOW - since, "before", exits))


def never(since: float) -> Served:
    """Return a service that had no access to a GPU at its start, so many seconds before NOW."""
    return replace(lost(since), plans=None)


TABLE: dict[str, tuple[Served, NotReady, float, Lost | None]] = {
    "lost now": (SERVED, DENIED, LIMIT, NEWLY),
    "an old library": (SERVED, OLD_LIBRARY, LIMIT, Lost(NOW, "old library")),
    "no driver": (SERVED, NO_DRIVER, LIMIT, None),
    "never": (SERVED, DENIED, 0.0, None),
    "before the first inventory": (Served(), DENIED, LIMIT, NEWLY),
    "without access for long": (never(LIMIT), DENIED, LIMIT, Lost(NOW - LIMIT, "no access")),
    "without access for very long": (
        never(NEVER_SERVED * LIMIT),
        DENIED,
        LIMIT,
        Lost(NOW - NEVER_SERVED * LIMIT, "no access", NOW),
    ),
    "a driver that came late": (
        replace(never(LIMIT), came_late=True),
        DENIED,
        LIMIT,
        Lost(NOW - LIMIT, "no access", NOW),
    ),
    "no driver yet": (Served(), NO_DRIVER, LIMIT, None),
    "in maintenance": (replace(SERVED, quiesced=True), DENIED, LIMIT, None),
    "lost a while ago": (lost(59.9), DENIED, LIMIT, Lost(NOW - 59.9, "no access")),
    "lost for long": (lost(60.0), DENIED, LIMIT, Lost(NOW - 60.0, "no access", NOW)),
    "lost for another reason": (lost(60.0), OLD_LIBRARY, LIMIT, Lost(NOW - 60, "old library", NOW)),
    "already exiting": (lost(65.0, 5.0), DENIED, LIMIT, Lost(NOW - 65, "no access", NOW - 5)),
    "exiting, now no driver": (lost(65.0, 5.0), NO_DRIVER, LIMIT, None),
    "exiting, now never": (lost(65.0, 5.0), DENIED, 0.0, None),
    "exiting, now in maintenance": (replace(lost(65.0, 5.0), quiesced=True), DENIED, LIMIT, None),
    "a longer time": (lost(65.0), DENIED, 300.0, Lost(NOW - 65.0, "no access")),
    "a shorter time": (lost(5.0), DENIED, 1.0, Lost(NOW - 5.0, "no access", NOW)),
}


@pytest.mark.parametrize(("served", "report", "limit", "after"), TABLE.values(), ids=TABLE)
def test_a_report_of_a_monitor(
    served: Served, report: NotReady, limit: float, after: Lost | None
) -> None:
    """The time without GPUs counts from the first report that only a new container can help."""
    assert give_up.after_report(served, report, limit, NOW) == after


MISSING = msgspec.structs.replace(NO_DRIVER, driver=DriverState.MISSING)
UNLOADED = msgspec.structs.replace(DENIED, driver=DriverState.MISSING)
BEHIND = msgspec.structs.replace(DENIED, came_late=True)


@pytest.mark.parametrize(
    ("reports", "late"),
    [
        ([DENIED], False),
        ([NO_DRIVER], False),
        ([MISSING], True),
        ([MISSING, DENIED], True),
        ([UNLOADED], False),
        ([BEHIND], True),
        ([BEHIND, NO_DRIVER, DENIED], True),
    ],
)
def test_a_driver_that_comes_late(reports: list[NotReady], *, late: bool) -> None:
    """It came after this container if a monitor has found none, or device nodes elsewhere only."""
    served = Served()
    for report in reports:
        unknown = give_up.unknown_after(report, 1)
        served = give_up.refused(served, report, unknown, LIMIT, NOW)
    assert served.came_late is late


@pytest.mark.parametrize(
    ("served", "limit", "due"),
    [
        (SERVED, LIMIT, False),
        (lost(1e6), LIMIT, False),
        (lost(60.0, 0.0), LIMIT, False),
        (lost(70.0, SHOWN - 0.1), LIMIT, False),
        (lost(70.0, SHOWN), LIMIT, True),
        (lost(2.0, 0.9), 1.0, False),
        (lost(2.0, 1.0), 1.0, True),
    ],
)
def test_the_exit_comes_after_a_failing_probe(served: Served, limit: float, *, due: bool) -> None:
    """The service exits when /livez has failed for 10 s, or for a shorter limit."""
    assert give_up.is_due(served.lost, limit, NOW) is due


def test_livez_fails_only_before_the_exit() -> None:
    """The exporter is told the newest reason from the moment when the service is about to exit."""
    assert lost(59.0).state(()).exits == ""
    assert lost(60.0, 0.0).state(()).exits == "before"
