"""Topology: which whole GPUs GetPreferredAllocation prefers."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.messages import Link, LinkLevel
from workers import topology
from workers.topology import Topology

many = settings(deadline=None, max_examples=100)

Pairs = dict[str, tuple[LinkLevel, int]]


def connected(pairs: Pairs) -> Topology:
    """Return the topology of GPUs with these links; `AB` is the pair of A and B."""
    return Topology.of(Link(pair[0], pair[1], *link) for pair, link in pairs.items())


def groups(*names: str, level: LinkLevel = LinkLevel.SYS, nvlinks: int = 1) -> Topology:
    """Return the topology of groups; in `ABC`, the GPUs A, B and C are linked."""
    pairs = (pair for name in names for pair in itertools.combinations(name, 2))
    return Topology.of(Link(first, second, level, nvlinks) for first, second in pairs)


TWO_BOARDS = groups("ABCD", "EFGH", level=LinkLevel.NODE, nvlinks=0)
SWITCHED = groups("ABCDEFGH", nvlinks=18)
CHAIN = connected(dict.fromkeys(("AB", "BC", "CD", "DE"), (LinkLevel.PIX, 0)))
UNEQUAL = groups("AB", "CDE", "FGHI")
EXAMPLE = connected({"AB": (LinkLevel.PIX, 0), "CD": (LinkLevel.NODE, 0)})
"""The node of the example at `Topology.choose`."""


@pytest.mark.parametrize(
    ("link", "score"),
    [
        ((LinkLevel.SYS, 0), 10),
        ((LinkLevel.NODE, 0), 20),
        ((LinkLevel.PHB, 0), 30),
        ((LinkLevel.PXB, 0), 40),
        ((LinkLevel.PIX, 0), 50),
        ((LinkLevel.SAME, 0), 60),
        ((LinkLevel.SYS, 1), 110),
        ((LinkLevel.NODE, 18), 1820),
    ],
)
def test_score(link: tuple[LinkLevel, int], score: int) -> None:
    """The score of a pair follows from its PCI level and NVLinks, in either order."""
    made = connected({"AB": link})
    assert made.score("A", "B") == made.score("B", "A") == score


def test_the_score_of_an_unknown_pair() -> None:
    """Two GPUs without a known link count as SYS; a GPU with itself has score 0."""
    made = connected({"AB": (LinkLevel.PIX, 4)})
    assert (made.score("A", "X"), made.score("X", "Y"), made.score("A", "A")) == (10, 10, 0)


@pytest.mark.parametrize(
    ("made", "available", "required", "size", "expected"),
    [
        (EXAMPLE, "ABCD", "", 2, "AB"),
        (EXAMPLE, "ABCD", "", 1, "C"),
        (EXAMPLE, "ABCD", "D", 3, "DAB"),
        (SWITCHED, "HGFEDCBA", "", 4, "ABCD"),
        (TWO_BOARDS, "HGFEDCBA", "", 4, "ABCD"),
        (TWO_BOARDS, "BCDEFGH", "", 4, "EFGH"),
        (TWO_BOARDS, "ABCDEFGH", "F", 4, "FEGH"),
        (TWO_BOARDS, "ABCDEFGH", "FB", 4, "BFAC"),
        (TWO_BOARDS, "ABCDEFGH", "", 3, "ABC"),
        (TWO_BOARDS, "ABCDEFG", "", 3, "EFG"),
        (TWO_BOARDS, "ABCDEFG", "", 1, "E"),
        (TWO_BOARDS, "DEFGH", "", 1, "D"),
        (UNEQUAL, "ABCDEFGHI", "", 1, "A"),
        (UNEQUAL, "ABCDEFGHI", "", 2, "AB"),
        (UNEQUAL, "ABCDEFGHI", "", 3, "CDE"),
        (UNEQUAL, "ABCDEFGHI", "", 5, "AFGHI"),
        (CHAIN, "ABCDE", "", 1, "A"),
        (CHAIN, "ABCDE", "", 2, "AB"),
        (CHAIN, "ABCDE", "C", 2, "CB"),
        (CHAIN, "ABCDE", "", 5, "ABCDE"),
        (CHAIN, "EA", "", 1, "A"),
        (Topology.of(()), "CBA", "", 2, "AB"),
        (CHAIN, "AB", "", 3, "AB"),
        (CHAIN, "AB", "B", 3, "BA"),
        (CHAIN, "AB", "X", 1, "A"),
        (CHAIN, "ABC", "CB", 1, "B"),
        (CHAIN, "AABB", "BB", 2, "BA"),
        (CHAIN, "AB", "B", 0, ""),
        (CHAIN, "AB", "B", -1, ""),
        (CHAIN, "", "", 2, ""),
    ],
    ids=[
        "the example: two",
        "the example: one",
        "the example: three with D",
        "all alike: the lowest",
        "one board",
        "the board that is whole",
        "the board of the required one",
        "required on both boards",
        "three of four, as well as four",
        "rather the board that is broken into",
        "one of the board that is broken into",
        "one that stands alone",
        "one of the smallest group",
        "a whole small group rather than a part of a great one",
        "a group that fits",
        "the greatest group and the loss that hurts least",
        "the end of a chain",
        "a pair at the end of a chain",
        "the neighbour, the lower one",
        "all",
        "of two that are left, the lower",
        "no links at all",
        "more than there are",
        "more than there are, and required",
        "required but not available",
        "more required than asked",
        "named twice",
        "none",
        "less than none",
        "nothing available",
    ],
)
def test_choose(made: Topology, available: str, required: str, size: int, expected: str) -> None:
    """The choice has the best connected GPUs, and leaves the best connected."""
    assert made.choose([*available], [*required], size) == [*expected]


@st.composite
def requests(draw: st.DrawFn, least: int, most: int) -> tuple[Topology, list[str], list[str], int]:
    """Draw a topology with some links, and a request."""
    names = [chr(ord("A") + place) for place in range(draw(st.integers(least, most)))]
    levels = st.sampled_from(draw(st.lists(st.sampled_from(LinkLevel), min_size=1, max_size=6)))
    link = st.tuples(levels, st.integers(0, draw(st.sampled_from([0, 1, 18]))))
    pairs = ["".join(pair) for pair in itertools.combinations(names, 2)]
    some = st.dictionaries(st.sampled_from(pairs), link) if pairs else st.just(Pairs())
    size = draw(st.integers(0, len(names)))
    required = draw(st.lists(st.sampled_from(names), unique=True, max_size=size))
    return connected(draw(some)), names, required, size


Request = tuple[Topology, list[str], list[str], int]


def total(made: Topology, some: object) -> int:
    """Return the sum of the scores of all pairs of some GPUs."""
    assert isinstance(some, set | list | tuple)
    return sum(made.score(*pair) for pair in itertools.combinations(some, 2))


@many
@given(requests(least=1, most=10))
def test_the_choice_is_the_best(request: Request) -> None:
    """The choice is the best: by its own score, then the rest's score, then UUIDs."""
    made, available, required, size = request
    best = min(
        (-total(made, some), -total(made, {*available}.difference(some)), some)
        for some in itertools.combinations(available, size)
        if {*required} <= {*some}
    )
    assert tuple(sorted(made.choose(available, required, size))) == best[2]


@many
@given(requests(least=1, most=24))
def test_the_choice_has_the_requested_size(request: Request) -> None:
    """The choice has the requested size, each GPU once, and required GPUs first."""
    made, available, required, size = request
    choice = made.choose(available, required, size)
    assert len(choice) == len({*choice}) == size
    assert {*choice} <= {*available}
    assert choice[: len(required)] == sorted(required)


@many
@given(requests(least=1, most=24), st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_order(request: Request, shuffler: random.Random) -> None:
    """The choice does not depend on the order of GPUs, required GPUs or links."""
    made, available, required, size = request
    scores = shuffler.sample([*made.scores.items()], len(made.scores))
    shuffled = Topology(dict(scores)).choose(
        shuffler.sample(available, len(available)), shuffler.sample(required, len(required)), size
    )
    assert shuffled == made.choose(available, required, size)


@many
@given(requests(least=2, most=8), st.integers(0, 7))
def test_a_gpu_that_is_not_available_changes_nothing(request: Request, place: int) -> None:
    """The links of a GPU that is not available do not affect the choice."""
    made, names, required, _ = request
    lost = names[place % len(names)]
    available = [name for name in names if name != lost]
    size = len(names) // 2
    without = Topology({pair: score for pair, score in made.scores.items() if lost not in pair})
    assert without.choose(available, required, size) == made.choose(available, required, size)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 12, 15])
def test_the_choice_of_sixteen_is_the_best(size: int) -> None:
    """The choice from 16 randomly linked GPUs has the highest score of all combinations."""
    drawn = random.Random(size)  # noqa: S311 - a node, not a secret
    weights = {pair: drawn.randrange(40) for pair in itertools.combinations(range(16), 2)}
    names = [f"{place:02}" for place in range(16)]
    made = Topology.of(
        Link(names[a], names[b], LinkLevel.SYS, weight) for (a, b), weight in weights.items()
    )
    choice = made.choose(names, [], size)
    assert total(made, choice) == max(
        total(made, some) for some in itertools.combinations(names, size)
    )


def test_all_combinations_of_up_to_sixteen_are_tried() -> None:
    """For up to 16 GPUs, the work to try all combinations is within the limit."""
    work = {
        (count, size): topology._work(count, size)  # noqa: SLF001 - it decides
        for count in range(1, 17)
        for size in range(1, count)
    }
    assert max(work.values()) <= topology.WORK


def random_node(count: int) -> tuple[Topology, list[str]]:
    """Return the topology and the names of *count* randomly linked GPUs."""
    drawn = random.Random(count)  # noqa: S311 - a node, not a secret
    names = [f"{place:02}" for place in range(count)]
    pairs = itertools.combinations(names, 2)
    return Topology.of(Link(*pair, LinkLevel.SYS, drawn.randrange(19)) for pair in pairs), names


@pytest.mark.parametrize(("count", "size"), [(24, 3), (20, 17), (64, 2), (64, 63)])
def test_among_many_few_combinations_are_all_tried(count: int, size: int) -> None:
    """With many GPUs but few combinations, the choice has the highest score."""
    made, names = random_node(count)
    best = max(total(made, some) for some in itertools.combinations(names, size))
    assert total(made, made.choose(names, [], size)) == best


@pytest.mark.parametrize(("count", "size"), [(17, 8), (24, 12), (32, 1), (32, 16), (64, 32)])
def test_among_many_no_swap_is_better(count: int, size: int) -> None:
    """With too many combinations, no swap of one chosen GPU improves the score."""
    made, names = random_node(count)
    choice = made.choose(names, [], size)
    rest = [name for name in names if name not in choice]
    within = {name: sum(made.score(name, other) for other in choice) for name in names}
    assert all(within[new] - made.score(new, old) <= within[old] for old in choice for new in rest)


@pytest.mark.parametrize("size", [3, 5, 8])
def test_among_many_a_group_that_fits_is_found(size: int) -> None:
    """With several groups of linked GPUs, the group of the requested size is chosen."""
    made = groups("ABCDEFGH", "IJKLM", "NOP", "QR", level=LinkLevel.NODE, nvlinks=18)
    names = [chr(ord("A") + place) for place in range(18)]
    expected = {3: "NOP", 5: "IJKLM", 8: "ABCDEFGH"}
    assert made.choose(names, [], size) == [*expected[size]]


def test_among_many_the_larger_group_stays_whole() -> None:
    """When the choice fits into two groups, it is taken from the smaller group."""
    made = groups("ABCDEFGHIJKL", "MNOPQRSTU")
    assert made.choose([*"ABCDEFGHIJKLMNOPQRSTU"], [], 8) == [*"MNOPQRST"]


def test_among_many_equal_gpus_the_lowest_are_chosen() -> None:
    """Among GPUs with equal links, those with the lowest UUIDs are chosen."""
    names = [f"{place:02}" for place in range(32)]
    assert Topology.of(()).choose(names[::-1], ["31"], 16) == ["31", *names[:15]]


@pytest.mark.parametrize(("count", "size"), [(24, 12), (64, 3), (64, 32), (64, 61)])
def test_the_work_among_many_is_bounded(
    count: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work for a choice among many GPUs is limited by STEPS."""
    made, names = random_node(count)
    grown = 0
    grow = topology._grow  # noqa: SLF001 - its calls are counted

    def counted(*arguments: object) -> object:
        nonlocal grown
        grown += size
        return grow(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(topology, "_grow", counted)
    made.choose(names, [], size)
    assert size <= grown <= topology.STEPS + size
