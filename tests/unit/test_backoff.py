"""Retries of the Kubernetes API: pauses between them, and their log lines."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from proto.backoff import FIRST, LAST, REJOIN, delay
from supervisor.cluster.backoff import Backoff


@given(st.integers(1, 10_000), st.floats(0.0, 1.0))
def test_the_pause_grows_up_to_a_limit(failures: int, chance: float) -> None:
    """The pause grows with each failure up to a limit; chance shortens it by at most half."""
    pause = delay(failures, chance)
    assert FIRST / 2 <= pause <= LAST
    assert delay(failures, 0.0) <= pause <= delay(failures, 1.0) == 2 * delay(failures, 0.0)
    assert delay(failures + 1, chance) >= pause


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Return a list that collects the logged messages."""
    found: list[str] = []
    sink = logger.add(lambda line: found.append(str(line).strip()), format="{message}")
    yield found
    logger.remove(sink)


def test_a_repeated_reason_is_logged_once(lines: list[str]) -> None:
    """A failure is logged when its reason changes, and the recovery is logged once."""
    backoff = Backoff("events")
    for reason in ("away", "away", "403", "403", "away"):
        backoff.failed(reason)
    backoff.went_well()
    backoff.went_well()
    trouble = "cannot use the Kubernetes API"
    assert lines == [trouble, trouble, trouble, "the Kubernetes API answers again"]


def test_a_success_resets_the_pause() -> None:
    """After a success, the next failure has the shortest pause again."""
    backoff = Backoff("events")
    for _ in range(10):
        backoff.failed("away")
    backoff.went_well()
    assert backoff.failed("away") <= FIRST


def test_nodes_do_not_come_back_at_once() -> None:
    """What worked for long is tried again somewhere in a longer time, but only the first time."""
    firsts, seconds = [], []
    for _ in range(200):
        backoff = Backoff("label")
        backoff.is_steady()
        firsts.append(backoff.failed("away"))
        seconds.append(backoff.failed("away"))
    assert max(firsts) <= REJOIN
    assert max(seconds) <= 2 * FIRST
    assert sum(pause > REJOIN / 2 for pause in firsts) > 50
