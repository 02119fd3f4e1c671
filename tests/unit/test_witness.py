"""Two witnesses of an Xid: which reports are of one, in any order, and who told of it."""

import math
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given

from health.witness import MOST_WAITING, WINDOW, Key, ToldBy, Witness

KEY, OTHER_GPU, OTHER_XID = ("A", 79), ("B", 79), ("A", 31)
N, K, B = ToldBy.NVML, ToldBy.KERNEL, ToldBy.BOTH
Settled = tuple[tuple[Key, ToldBy], ...]
Report = tuple[float, Key, ToldBy]


def told(*reports: Report) -> tuple[list[bool], Settled, Witness]:
    """Return which reports are news, who told of each Xid, and the state, after all of them."""
    witness, news = Witness(), []
    settled: list[tuple[Key, ToldBy]] = []
    for at, key, source in reports:
        witness, heard = witness.after(key, source, at)
        news.append(heard.news)
        settled += heard.settled
    end, rest = witness.due(math.inf)
    assert end == Witness()
    return news, (*settled, *rest), witness


@pytest.mark.parametrize(("first", "second"), [(N, K), (K, N)])
def test_one_xid_of_both(first: ToldBy, second: ToldBy) -> None:
    """An Xid that both tell within the time is one, whoever is first."""
    assert told((1.0, KEY, first), (2.9, KEY, second))[:2] == ([True, False], ((KEY, B),))


@pytest.mark.parametrize("first", [N, K])
def test_an_xid_that_one_tells(first: ToldBy) -> None:
    """An Xid that only one tells is settled after the time, not before."""
    witness, heard = Witness().after(KEY, first, 1.0)
    assert heard.news
    assert heard.settled == ()
    assert witness.deadline() == 1.0 + WINDOW
    assert witness.due(2.9) == (witness, ())
    assert witness.due(3.0) == (Witness(), ((KEY, first),))


@pytest.mark.parametrize(
    "second",
    [(3.0, KEY, K), (1.0, OTHER_GPU, K), (1.0, OTHER_XID, K), (1.0, KEY, N)],
    ids=["later", "another GPU", "another Xid", "the same source"],
)
def test_two_xids(second: Report) -> None:
    """Reports too far apart, of another GPU, another Xid or the same source are of two Xids."""
    news, settled, _ = told((1.0, KEY, N), second)
    assert news == [True, True]
    assert sorted(settled) == sorted([(KEY, N), (second[1], second[2])])


def test_each_report_has_one_counterpart() -> None:
    """Three Xids of NVML, two of which the log tells too, are three."""
    news, settled, _ = told(
        (1.0, KEY, N), (1.0, KEY, N), (1.1, KEY, N), (1.2, KEY, K), (1.3, KEY, K)
    )
    assert news == [True, True, True, False, False]
    assert Counter(settled) == {(KEY, B): 2, (KEY, N): 1}


def test_what_still_waits() -> None:
    """It can be asked whether NVML has told of an Xid that the log has not told."""
    _, _, witness = told((1.0, KEY, N), (1.0, KEY, N), (1.0, KEY, K))
    assert witness.waits(KEY, N)
    assert not witness.waits(KEY, K)
    assert not witness.waits(OTHER_XID, N)


def test_a_storm_takes_little_memory() -> None:
    """If too many wait, further ones are settled at once."""
    _, settled, witness = told(*((1.0, ("A", code), N) for code in range(MOST_WAITING + 5)))
    assert witness.waiting == MOST_WAITING
    assert len(settled) == MOST_WAITING + 5


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.001, 0.5, 1.9, WINDOW, 5.0]),
            st.sampled_from([KEY, OTHER_GPU, OTHER_XID]),
            st.sampled_from([N, K]),
        ),
        max_size=30,
    )
)
def test_no_report_is_lost_or_counted_twice(steps: list[Report]) -> None:
    """Each Xid is news once and settled once, and no report is left over."""
    now, reports = 0.0, []
    for step, key, source in steps:
        now += step
        reports.append((now, key, source))
    news, settled, _ = told(*reports)
    assert sum(news) == len(settled)
    seen = Counter(key for _, key, _ in reports)
    shown = Counter[Key]()
    for key, source in settled:
        shown[key] += 2 if source is B else 1
    assert shown == seen
