"""When the node's labels are written, and when their file expires."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.backoff import LAST
from supervisor.labels.schedule import API, Content, Pace, Progress, due, expiry

ONE, TWO = Content({"nvidia.com/gpu.count": "1"}), Content({"nvidia.com/gpu.count": "2"})
PACE = Pace(gap=10.0, renewal=300.0)


def test_a_first_change_is_written_at_once() -> None:
    """What was never written is due now, and a change long after the last write too."""
    assert due(PACE, Progress(), ONE) == -math.inf
    after = Progress().went_well(ONE, 100.0, wrote=True)
    assert due(PACE, after, TWO) == 110.0


def test_what_is_right_already_costs_nothing() -> None:
    """An attempt that had to write nothing delays no write."""
    found = Progress().went_well(ONE, 100.0, wrote=False)
    assert due(PACE, found, TWO) == -math.inf


def test_without_a_change_the_output_is_looked_at_again() -> None:
    """The next attempt with the same content is due after the renewal, or never."""
    after = Progress().went_well(ONE, 100.0, wrote=True)
    assert due(PACE, after, ONE) == 400.0
    assert due(Pace(1.0, 0.0), after, ONE) == math.inf


def test_nothing_is_written_before_the_node_is_known() -> None:
    """Without content there is no attempt."""
    assert due(PACE, Progress(), None) == math.inf


def test_a_failure_delays_also_a_change() -> None:
    """After a failure the pause holds whatever is wanted, and it ends with a success."""
    failed = Progress().failed(100.0, 1.0).failed(101.0, 1.0)
    assert due(PACE, failed, ONE) == due(PACE, failed, TWO) == 103.0
    assert due(PACE, failed.went_well(ONE, 103.0, wrote=True), TWO) == 113.0


def test_a_failed_renewal_is_retried_before_the_next_one() -> None:
    """When a look fails, the retry does not wait for a whole renewal."""
    failed = Progress().went_well(ONE, 100.0, wrote=True).failed(400.0, 1.0)
    assert due(PACE, failed, ONE) == 401.0


@given(
    st.lists(
        st.tuples(st.floats(0.0, 30.0), st.sampled_from([ONE, TWO]), st.booleans()), max_size=60
    )
)
def test_writes_keep_their_distance(steps: list[tuple[float, Content, bool]]) -> None:
    """Whatever changes and fails, two writes are at least the gap apart, and no pause is longer
    than the longest between two retries.
    """
    progress, now, writes = Progress(), 0.0, list[float]()
    for pause, wanted, fails in steps:
        now += pause
        when = due(API, progress, wanted)
        if wanted != progress.done:
            assert when <= now + max(API.gap, LAST)
        if when > now:
            continue
        progress = (
            progress.failed(now, 0.5) if fails else progress.went_well(wanted, now, wrote=True)
        )
        if not fails:
            writes.append(now)
    assert all(later - earlier >= API.gap for earlier, later in pairwise(writes))


@pytest.mark.parametrize(("interval", "expected"), [(60.0, 1180.0), (1.0, 1003.0), (0.0, None)])
def test_the_file_expires_after_three_intervals(interval: float, expected: float | None) -> None:
    """A file lasts for three intervals, or for ever if it is written only once."""
    assert expiry(interval, 1000.0) == expected
