"""When the configuration is read again, however often somebody asks for it."""

import pytest

from supervisor.reload_schedule import EVERY, SETTLES_WITHIN, Schedule

NOW = 100.0
ASKED = Schedule(asked=True)

TABLE: dict[str, tuple[Schedule, bool, bool, float | None]] = {
    # schedule, settled; due, deadline
    "nobody asks": (Schedule(ended=1.0, applied=1.0), True, False, None),
    "the first time": (ASKED, False, True, None),
    "a reading has just ended": (
        Schedule(asked=True, ended=NOW - 0.4),
        True,
        False,
        NOW - 0.4 + EVERY,
    ),
    "a second later": (Schedule(asked=True, ended=NOW - EVERY), True, True, None),
    "a reading that changed nothing": (
        Schedule(asked=True, ended=NOW - EVERY, applied=NOW - 50),
        True,
        True,
        None,
    ),
    "not settled": (
        Schedule(asked=True, ended=NOW - 3, applied=NOW - 3),
        False,
        False,
        NOW - 3 + SETTLES_WITHIN,
    ),
    "settled": (
        Schedule(asked=True, ended=NOW - 3, applied=NOW - 3),
        True,
        True,
        NOW - 3 + SETTLES_WITHIN,
    ),
    "it never settles": (
        Schedule(asked=True, ended=NOW - 30, applied=NOW - SETTLES_WITHIN),
        False,
        True,
        None,
    ),
    "the start waits": (Schedule(asked=True, urgent=True, ended=NOW - 0.1), False, True, NOW + 0.9),
}


@pytest.mark.parametrize(("schedule", "settled", "due", "deadline"), TABLE.values(), ids=TABLE)
def test_when_a_reading_is_due(
    schedule: Schedule, *, settled: bool, due: bool, deadline: float | None
) -> None:
    """At most once a second, and only when the last change has taken effect or takes too long."""
    assert schedule.due(NOW, settled=settled) is due
    assert schedule.deadline(NOW) == (deadline and pytest.approx(deadline))


def test_a_storm_of_changes_is_read_once_a_second() -> None:
    """However often somebody asks, and though each reading changes the settings: once a second."""
    schedule, readings = Schedule(), 0
    for tenth in range(1, 101):
        now = tenth / 10
        schedule = Schedule(True, schedule.urgent, schedule.ended, schedule.applied)
        if schedule.due(now, settled=True):
            readings += 1
            schedule = schedule.begun().done(now, changed=True)
    assert readings == 10


def test_what_is_asked_during_a_reading_needs_another() -> None:
    """A reading that began before the change may have missed it."""
    begun = ASKED.begun()
    assert not begun.asked
    again = Schedule(True, begun.urgent, begun.ended, begun.applied).done(NOW, changed=False)
    assert not again.due(NOW, settled=True)
    assert again.due(NOW + EVERY, settled=True)
