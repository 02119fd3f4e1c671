"""How long the file with the node's labels lasts."""

import pytest

from supervisor.labels.schedule import expiry


@pytest.mark.parametrize(("interval", "expected"), [(60.0, 1180.0), (1.0, 1003.0), (0.0, None)])
def test_the_file_expires_after_three_intervals(interval: float, expected: float | None) -> None:
    """A file lasts for three intervals, or for ever if it is written only once."""
    assert expiry(interval, 1000.0) == expected
