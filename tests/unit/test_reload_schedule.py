"""When the configuration is read again, however often somebody asks for it."""

import pytest
from msgspec.structs import replace

from supervisor.reload_schedule import EVERY, SETTLES_WITHIN, Schedule

NOW = 100.0
ASKED = Schedule(asked=True)

TABLE: dict[str, tuple[Schedule, bool, bool, float | None]] = {
    # schedule, settled; due, deadline
    "nobody asks": (Schedule(again=NOW + 1, applied=1.0), True, False, None),
    "the first time": (ASKED, False, True, None),
    "too early": (Schedule(asked=True, again=NOW + 0.6), True, False, NOW + 0.6),
    "a second later": (Schedule(asked=True, again=NOW), True, True, None),
    "not settled": (
        Schedule(asked=True, applied=NOW - 3),
        False,
        False,
        NOW - 3 + SETTLES_WITHIN,
    ),
    "settled": (Schedule(asked=True, applied=NOW - 3), True, True, NOW - 3 + SETTLES_WITHIN),
    "it never settles": (Schedule(asked=True, applied=NOW - SETTLES_WITHIN), False, True, None),
    "the start waits": (Schedule(asked=True, urgent=True, again=NOW + 1), False, True, NOW + 1),
}


@pytest.mark.parametrize(("schedule", "settled", "due", "deadline"), TABLE.values(), ids=TABLE)
def test_when_a_reading_is_due(
    schedule: Schedule, *, settled: bool, due: bool, deadline: float | None
) -> None:
    """At most once a second, and only when the last change has taken effect or takes too long."""
    assert schedule.due(NOW, settled=settled) is due
    assert schedule.deadline(NOW) == (deadline and pytest.approx(deadline))


@pytest.mark.parametrize(
    ("took", "again"), [(0.1, EVERY), (0.7, 1.4), (5.0, 10.0)], ids=["fast", "slow", "slower"]
)
def test_a_slow_file_takes_half_a_core_at_most(took: float, again: float) -> None:
    """A reading is followed by a pause of its length, but by no pause if it was fast."""
    schedule = ASKED.begun(NOW).done(NOW + took, changed=True)
    assert schedule.again == pytest.approx(NOW + again)


def test_a_storm_of_changes_is_read_once_a_second() -> None:
    """However often somebody asks, and though each reading changes the settings: once a second."""
    schedule, readings = Schedule(), 0
    for tenth in range(1, 101):
        now = tenth / 10
        schedule = replace(schedule, asked=True)
        if schedule.due(now, settled=True):
            readings += 1
            schedule = schedule.begun(now).done(now, changed=True)
    assert readings == 10


def test_what_is_asked_during_a_reading_needs_another() -> None:
    """A reading that began before the change may have missed it."""
    begun = ASKED.begun(NOW)
    assert not begun.asked
    again = replace(begun, asked=True).done(NOW, changed=False)
    assert not again.due(NOW, settled=True)
    assert again.due(NOW + EVERY, settled=True)
