"""How the GPUs of a node are connected, and which whole GPUs a container should get."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import add, itemgetter
from typing import Self

from proto.messages import Link, LinkLevel

LEVEL_SCORES = {
    LinkLevel.SYS: 10,
    LinkLevel.NODE: 20,
    LinkLevel.PHB: 30,
    LinkLevel.PXB: 40,
    LinkLevel.PIX: 50,
    LinkLevel.SAME: 60,
}
NVLINK_SCORE = 100

EXACT = 16
"""Candidates among which the best choice is certain to be found."""

STEPS = 1024
"""Where there are more: how often another one is added to a choice that grows."""


@dataclass(frozen=True, slots=True)
class Topology:
    """The scores of the connections between a node's GPUs."""

    scores: Mapping[tuple[str, str], int]
    """By two UUIDs, either way round; a pair that is not named is SYS without NVLink."""

    @classmethod
    def of(cls, links: Iterable[Link]) -> Self:
        """Return the topology that *links* make."""
        scores = {}
        for link in links:
            score = LEVEL_SCORES[link.level] + NVLINK_SCORE * link.nvlinks
            scores[link.first, link.second] = scores[link.second, link.first] = score
        return cls(scores)

    def score(self, first: str, second: str) -> int:
        """Return how well two GPUs are connected; a GPU adds nothing to itself."""
        if first == second:
            return 0
        return self.scores.get((first, second), LEVEL_SCORES[LinkLevel.SYS])

    def choose(self, available: Sequence[str], required: Sequence[str], size: int) -> list[str]:
        """Return *size* of the *available* GPUs, the *required* first; fewer where there are fewer.

        They have the highest sum of scores among them; among equals they leave behind the highest
        sum; among equals their UUIDs are the lowest. Where more than EXACT are to choose from,
        a good choice is made instead, in polynomial time.
        """
        given = sorted({*available} & {*required})
        candidates = sorted({*available}.difference(given))
        missing = size - len(given)
        if missing <= 0:
            return given[: max(size, 0)]
        if missing >= len(candidates):
            return given + candidates
        own, pairs = self._values(given, candidates)
        search = _best if len(candidates) <= EXACT else _good
        value = search(own, pairs, missing)
        places = reversed(range(len(candidates)))
        return given + [
            uuid for uuid, place in zip(candidates, places, strict=True) if value >> place & 1
        ]

    def _values(
        self, given: Sequence[str], candidates: Sequence[str]
    ) -> tuple[list[int], list[list[int]]]:
        """Return what each candidate is worth beside the *given*, and what each two add to it.

        The aims are digits of one number, so that the greatest sum is the best choice: the scores
        among the chosen; what the rest loses, subtracted; a bit for each candidate, the first
        the highest, so that the sum tells who is in it.
        """
        rows = [[self.score(one, other) for other in candidates] for one in candidates]
        bonds = [sum(self.score(one, other) for other in given) for one in candidates]
        degrees = [bond + sum(row) for bond, row in zip(bonds, rows, strict=True)]
        scale, shift = sum(degrees) + 1, len(candidates)
        own = [
            (bond * scale - degree << shift) + (1 << shift - 1 - place)
            for place, (bond, degree) in enumerate(zip(bonds, degrees, strict=True))
        ]
        return own, [[score * scale << shift for score in row] for row in rows]


def _best(own: list[int], pairs: list[list[int]], count: int) -> int:
    """Return the greatest sum of *count* items; the work depends on their number alone.

    Every choice of the left half of them meets every choice of the right half of a fitting size.
    What the right choices add to a left one is a list, the sum of one for each quarter of it.
    """
    half, quarter = len(own) // 2, len(own) // 4
    right = range(half, len(own))
    order = sorted(range(1 << len(right)), key=int.bit_count)
    by_size = itemgetter(*order)
    ends = itertools.accumulate(math.comb(len(right), size) for size in range(len(right) + 1))
    slices = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]

    rows = [by_size(_sums(0, pairs[place][half:])) for place in range(half)]
    low = _tables([0] * len(order), rows[:quarter])
    high = _tables(by_size(_choices(own, pairs, right)), rows[quarter:])
    sums: list[int] = []
    for mask, value in enumerate(_choices(own, pairs, range(half))):
        rest = count - mask.bit_count()
        if 0 <= rest <= len(right):
            those = slices[rest]
            first, second = low[mask % (1 << quarter)], high[mask >> quarter]
            sums.append(value + max(map(add, first[those], second[those])))
    return max(sums)


def _choices(own: list[int], pairs: list[list[int]], places: range) -> list[int]:
    """Return the value of each set of *places*, by its bit mask."""
    values = [0]
    for place in places:
        joined = _sums(own[place], pairs[place][places.start : place])
        values = [*values, *map(add, values, joined)]
    return values


def _sums(start: int, terms: Iterable[int]) -> list[int]:
    """Return *start* and the sum of each set of *terms*, by its bit mask."""
    sums = [start]
    for term in terms:
        sums += [one + term for one in sums]
    return sums


def _tables(start: Sequence[int], rows: Iterable[Sequence[int]]) -> list[Sequence[int]]:
    """Return *start* and the sum of each set of *rows*, by its bit mask."""
    tables = [start]
    for row in rows:
        tables += [[*map(add, one, row)] for one in tables]
    return tables


def _good(own: list[int], pairs: list[list[int]], count: int) -> int:
    """Return a great sum of *count* items: the best that grows from one, improved by swaps."""
    starts = range(0, len(own), -(-len(own) * count // STEPS))
    value, chosen = max(_grow(own, pairs, count, start) for start in starts)
    others = [place for place in range(len(own)) if place not in chosen]
    for _ in own:  # a bound: what improves step by step may take very many steps
        gains = [
            mine + sum(map(row.__getitem__, chosen)) for mine, row in zip(own, pairs, strict=True)
        ]
        more, place, other = max(
            (gains[other] - pairs[place][other] - gains[place], place, other)
            for place in chosen
            for other in others
        )
        if more <= 0:
            break
        value += more
        chosen[chosen.index(place)] = other
        others[others.index(other)] = place
    return value


def _grow(own: list[int], pairs: list[list[int]], count: int, start: int) -> tuple[int, list[int]]:
    """Return the sum of *count* items, and which, adding to *start* what fits best to the last."""
    gains, free = own, [*range(len(own))]
    value, chosen, place = 0, list[int](), start
    while True:
        value += gains[place]
        chosen.append(place)
        free.remove(place)
        if len(chosen) == count:
            return value, chosen
        gains = [*map(add, gains, pairs[place])]
        place = max(free, key=gains.__getitem__)
