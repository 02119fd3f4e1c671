"""Which HTTP connection is closed, whose turn it is, and how long a body is kept."""

import asyncio
from collections import defaultdict

import pytest

from supervisor.exporter.crowd import FRESH, Crowd, Visitor
from supervisor.exporter.shared import KEPT, WORK, Made, Shared, packed
from supervisor.exporter.turns import Turns


class Guests:
    """A crowd, and who was hung up on."""

    def __init__(self, most: int, full: int) -> None:
        self.crowd = Crowd(most, full)
        self.gone: list[str] = []

    def come(self, source: str, name: str, now: float) -> Visitor:
        """Let a client come."""
        client = Visitor(source, now, lambda: self.gone.append(name))
        self.crowd.enter(client)
        return client


def test_the_client_that_keeps_us_waiting_longest_has_to_leave() -> None:
    """With too many connections, the one that we have waited for longest is closed."""
    guests = Guests(2, 9)
    for place, name in enumerate("abc"):
        guests.come("x", name, float(place))
    assert guests.gone == ["a"]
    assert len(guests.crowd) == 2


def test_a_client_that_sends_something_is_not_kept_waiting_for() -> None:
    """A client that begins a request, or has read an answer, comes after those that did not."""
    guests = Guests(2, 9)
    first = guests.come("x", "a", 0.0)
    guests.come("x", "b", 1.0)
    guests.crowd.waits(first, 2.0)
    guests.come("x", "c", 3.0)
    assert guests.gone == ["b"]


def test_a_fresh_client_stays() -> None:
    """No connection is closed that has kept us waiting for less than a second."""
    guests = Guests(2, 9)
    for place, name in enumerate("abcde"):
        guests.come("x", name, place * FRESH / 10)
    assert guests.gone == []
    guests.come("x", "f", FRESH)
    assert guests.gone == ["a"]


def test_a_fresh_client_leaves_only_when_no_connection_is_left() -> None:
    """At the maximum number of connections, a source with the most of them loses its oldest."""
    guests = Guests(2, 4)
    guests.come("y", "probe", 0.0)
    for name in "abcd":
        guests.come("x", name, 0.1)
    assert guests.gone == ["a"]


def test_one_source_does_not_take_the_place_of_others() -> None:
    """A flood from one source closes that source's connections, not older ones of others."""
    guests = Guests(4, 9)
    guests.come("prometheus", "idle", 0.0)
    guests.come("kubelet", "idle too", 0.0)
    for number in range(20):
        guests.come("flood", f"{number}", 10.0 + number * FRESH)
    assert guests.gone == [f"{number}" for number in range(18)]


def test_a_flood_from_many_sources_closes_the_oldest() -> None:
    """Among sources with equally many connections, the oldest connection is closed."""
    guests = Guests(3, 9)
    for number in range(5):
        guests.come(f"source {number}", f"{number}", number * FRESH)
    assert guests.gone == ["0", "1"]


def test_a_client_leaves_once() -> None:
    """A client that has left is not counted, and is not hung up on."""
    guests = Guests(1, 9)
    client = guests.come("x", "a", 0.0)
    for _ in range(2):
        guests.crowd.leave(client)
    guests.crowd.waits(client, 1.0)
    guests.come("x", "b", 2.0)
    assert (guests.gone, len(guests.crowd), client in guests.crowd) == ([], 1, False)


def test_sources_take_turns() -> None:
    """A source with much work does not make another source wait, nor does work that is void."""

    async def story() -> list[list[str]]:
        turns, rounds = Turns(2), defaultdict[int, list[str]](list)
        number = 0

        def work(name: str, *, done: bool) -> bool:
            if done:
                rounds[number].append(name)
            return done

        for name in ("a1", "a2", "void", "a3", "b1"):
            turns.add(name[0], lambda name=name: work(name, done=name != "void"))  # type: ignore[misc]
        while sum(map(len, rounds.values())) < 4:
            await asyncio.sleep(0)
            number += 1
        return [rounds[turn] for turn in sorted(rounds)]

    assert asyncio.run(story()) == [["a1", "b1"], ["a2", "a3"]]


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [(0.0, KEPT), (0.01, KEPT), (KEPT, KEPT / WORK)],
    ids=["no", "short", "long"],
)
def test_how_long_a_body_is_kept(seconds: float, kept: float) -> None:
    """A body is kept for a second, and longer if it takes long to make."""
    made = Made(b"", 100.0, seconds)
    assert [made.is_old(100.0 + kept * part) for part in (0.99, 1.01)] == [False, True]


def test_a_body_is_shared() -> None:
    """A body is made once for all who ask, unless it has to be fresh; so is its gzip."""
    made, shared = iter((b"first", b"second", b"third")), Shared()
    first = shared.body("a", lambda: next(made))
    assert shared.body("a", lambda: next(made)) is first
    assert packed(first) is packed(first)
    assert shared.body("b", lambda: next(made)).body == b"second"
    fresh = shared.body("a", lambda: next(made), fresh=True)
    assert (fresh.body, shared.body("a", lambda: next(made))) == (b"third", fresh)
