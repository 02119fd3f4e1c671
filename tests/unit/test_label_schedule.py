"""How long the file with the node's labels lasts."""

import pytest

from supervisor.labels.schedule import clock_moved, expiry


@pytest.mark.parametrize(("interval", "expected"), [(60.0, 1180.0), (1.0, 1003.0), (0.0, None)])
def test_the_file_expires_after_three_intervals(interval: float, expected: float | None) -> None:
    """A file lasts for three intervals, or for ever if it is written only once."""
    assert expiry(interval, 1000.0) == expected


@pytest.mark.parametrize(
    ("ahead", "expected"), [(0.0, False), (2.0, False), (-2.0, False), (6.0, True), (-3600.0, True)]
)
def test_only_a_clock_that_was_set_has_moved(ahead: float, expected: bool) -> None:  # noqa: FBT001
    """Corrections of the clock, which are slow, cost no write."""
    assert clock_moved(1_000_000.0, 1_000_000.0 + ahead) is expected
