"""When what must be kept true is written again, and when a failure is retried."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proto.backoff import LAST
from proto.pace import Pace, Progress, due
from proto.spread import next_turn, place_of

ONE, TWO = "one", "two"
PACE = Pace(gap=10.0, renewal=300.0)
SPREAD = Pace(gap=10.0, renewal=300.0, place=0.5, longest_retry=300.0)
FIRST: Progress[str] = Progress()


def test_a_first_change_is_written_at_once() -> None:
    """What was never written is due now, and a change long after the last write too."""
    assert due(PACE, FIRST, ONE) == -math.inf
    after = FIRST.went_well(ONE, 100.0, wrote=True)
    assert due(PACE, after, TWO) == 110.0


def test_what_is_right_already_costs_nothing() -> None:
    """An attempt that had to write nothing delays no write."""
    found = FIRST.went_well(ONE, 100.0, wrote=False)
    assert due(PACE, found, TWO) == -math.inf


def test_without_a_change_the_output_is_looked_at_again() -> None:
    """The next attempt with the same content is due after the renewal, or never."""
    after = FIRST.went_well(ONE, 100.0, wrote=True)
    assert due(PACE, after, ONE) == 400.0
    assert due(Pace(1.0, 0.0), after, ONE) == math.inf


def test_nothing_is_written_before_the_node_is_known() -> None:
    """Without content there is no attempt."""
    assert due(PACE, FIRST, None) == math.inf


def test_a_failure_delays_also_a_change() -> None:
    """After a failure the pause holds whatever is wanted, and it ends with a success."""
    failed = FIRST.failed(100.0, 1.0).failed(101.0, 1.0)
    assert due(PACE, failed, ONE) == due(PACE, failed, TWO) == 103.0
    assert due(PACE, failed.went_well(ONE, 103.0, wrote=True), TWO) == 113.0


def test_a_failed_renewal_is_retried_before_the_next_one() -> None:
    """When a look fails, the retry does not wait for a whole renewal."""
    failed = FIRST.went_well(ONE, 100.0, wrote=True).failed(400.0, 1.0)
    assert due(PACE, failed, ONE) == 401.0


@given(
    st.lists(
        st.tuples(st.floats(0.0, 30.0), st.sampled_from([ONE, TWO]), st.booleans()), max_size=60
    )
)
def test_writes_keep_their_distance(steps: list[tuple[float, str, bool]]) -> None:
    """Whatever changes and fails, two writes are at least the gap apart, and no pause is longer
    than the longest between two retries.
    """
    progress, now, writes = FIRST, 0.0, list[float]()
    for pause, wanted, fails in steps:
        now += pause
        when = due(PACE, progress, wanted)
        if wanted != progress.done:
            assert when <= now + max(PACE.gap, LAST)
        if when > now:
            continue
        progress = (
            progress.failed(now, 0.5) if fails else progress.went_well(wanted, now, wrote=True)
        )
        if not fails:
            writes.append(now)
    assert all(later - earlier >= PACE.gap for earlier, later in pairwise(writes))


def test_nodes_that_begin_together_have_turns_of_their_own() -> None:
    """The next attempt without a change is due at the node's turn, at most one renewal later."""
    after = FIRST.went_well(ONE, 100.0, wrote=True)
    assert due(SPREAD, after, ONE) == 150.0
    assert due(SPREAD, after.went_well(ONE, 150.0, wrote=True), ONE) == 450.0
    assert due(SPREAD, after, TWO) == 110.0


def test_only_a_retry_that_nobody_waits_for_has_time() -> None:
    """After many failures a change is retried each minute, and an unchanged content less often."""
    long_ago = FIRST.went_well(ONE, 0.0, wrote=True)
    for _ in range(20):
        long_ago = long_ago.failed(1000.0, 1.0)
    assert due(SPREAD, long_ago, ONE) == 1300.0
    assert due(SPREAD, long_ago, TWO) == due(PACE, long_ago, ONE) == 1000.0 + LAST


@given(st.floats(0.0, 1e9), st.sampled_from([60.0, 300.0]), st.floats(0.0, 1.0))
def test_a_turn_comes_once_in_each_period(after: float, period: float, place: float) -> None:
    """The next turn is later, at most a period later, and the one after it a whole period later."""
    turn = next_turn(after, period, place)
    assert after < turn <= after + period * 1.001
    assert abs(next_turn(turn + 1.0, period, place) - turn - period) < 0.001


def test_the_places_of_many_nodes_are_even() -> None:
    """Of a thousand nodes with similar names, no tenth of the period has far too many turns."""
    places = [place_of(f"node-{number}") for number in range(1000)]
    assert all(0 <= place < 1 for place in places)
    tenths = [int(10 * place) for place in places]
    assert all(70 <= tenths.count(tenth) <= 130 for tenth in range(10))
