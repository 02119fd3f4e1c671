"""How often a server that fails is asked, and what the log says of it."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from supervisor.cluster.backoff import FIRST, LAST, Backoff, delay


@given(st.integers(1, 10_000), st.floats(0.0, 1.0))
def test_the_pause_grows_to_an_end(failures: int, chance: float) -> None:
    """Each pause is within its half, no shorter than the one before could be, and has an end."""
    pause = delay(failures, chance)
    assert FIRST / 2 <= pause <= LAST
    assert delay(failures, 0.0) <= pause <= delay(failures, 1.0) == 2 * delay(failures, 0.0)
    assert delay(failures + 1, chance) >= pause


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Collect what is logged."""
    found: list[str] = []
    sink = logger.add(lambda line: found.append(str(line).strip()), format="{message}")
    yield found
    logger.remove(sink)


def test_each_trouble_is_one_line(lines: list[str]) -> None:
    """The same reason is logged once, another one again, and the end of it all."""
    backoff = Backoff("events")
    for reason in ("away", "away", "403", "403", "away"):
        backoff.failed(reason)
    backoff.went_well()
    backoff.went_well()
    trouble = "cannot use the Kubernetes API"
    assert lines == [trouble, trouble, trouble, "the Kubernetes API answers again"]


def test_a_success_starts_anew() -> None:
    """After a success the next failure is followed by a short pause."""
    backoff = Backoff("events")
    for _ in range(10):
        backoff.failed("away")
    backoff.went_well()
    assert backoff.failed("away") <= FIRST
