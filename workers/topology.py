"""How the GPUs of a node are connected, and which whole GPUs a container should get."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from operator import add
from typing import Self

import msgspec

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

WORK = 560_000
"""Up to this much work (see `_work`) all combinations are tried: 25 ms, enough for any of 16."""

STEPS = 1024
"""Beyond it, how often a GPU is added to a growing choice, over all the choices that grow."""


class Topology(msgspec.Struct, frozen=True):
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

        The chosen GPUs have the highest sum of scores among them. Among equal choices, the GPUs
        left behind have the highest sum. Among equals of that too, the lowest UUIDs win.
        Where trying all combinations takes too long, the choice is a good one instead.

        An example: A and B share a PCIe switch (PIX, 50), C and D a NUMA node (NODE, 20), and all
        other pairs are far apart (SYS, 10).

        - Two GPUs: A and B. They have 50, C and D have 20, any other two have 10.
        - One GPU: C. No GPU has a score by itself, so what it leaves behind decides. Without C the
          others have 50 + 10 + 10, as without D; without A or B they have only 20 + 10 + 10.
          Of C and D, C is the lower.
        - Three GPUs, D required: D, A and B, with 10 + 10 + 50. D, A and C have 10 + 20 + 10.
        """
        given = sorted({*available} & {*required})
        candidates = sorted({*available}.difference(given))
        missing = size - len(given)
        if missing <= 0:
            return given[: max(size, 0)]
        if missing >= len(candidates):
            return given + candidates
        worth = self._worth(given, candidates)
        search = _best if _work(len(candidates), missing) <= WORK else _good
        return given + [candidates[place] for place in search(worth, missing)]

    def _worth(self, given: Sequence[str], candidates: Sequence[str]) -> "_Worth":
        """Return what the *candidates* add to a choice that has the *given* GPUs."""
        scores = [[self.score(first, second) for second in candidates] for first in candidates]
        bonds = [sum(self.score(first, second) for second in given) for first in candidates]
        taken = [bond + sum(row) for bond, row in zip(bonds, scores, strict=True)]
        scale = 1 + sum(taken)
        return _Worth(
            [bond * scale - less for bond, less in zip(bonds, taken, strict=True)],
            [[score * scale for score in row] for row in scores],
        )


class _Worth(msgspec.Struct, frozen=True):
    """What the candidates add to a choice, by their places in the order of their UUIDs.

    One number serves both aims: the sum of scores among the chosen GPUs, times a scale, minus
    what each chosen candidate takes, the sum of its scores with all available GPUs. Of choices
    with equal sums, the one that takes less leaves more behind. The scale is greater than all
    that can be taken, so the sum among the chosen GPUs always decides first.

    In the example of `choose`, A and B take 50 + 10 + 10 = 70 each, C and D 40 each. The scale is
    70 + 70 + 40 + 40 + 1 = 221. A and B are worth 50 * 221 - 140; C is worth -40, and A -70.
    """

    alone: Sequence[int]
    """What a candidate adds by itself: its scores with the required GPUs, minus what it takes."""

    together: Sequence[Sequence[int]]
    """What two candidates add if both are chosen; 0 for a candidate and itself."""

    def value(self, chosen: Sequence[int]) -> int:
        """Return what a choice is worth."""
        # Lists, since generators take an eighth longer, and this is called up to 13,000 times.
        pairs = [self.together[a][b] for a, b in itertools.combinations(chosen, 2)]
        return sum([self.alone[place] for place in chosen]) + sum(pairs)


def _work(candidates: int, size: int) -> int:
    """Return how much work all combinations are: their pairs, and as much as 12 pairs for each."""
    return math.comb(candidates, size) * (math.comb(size, 2) + 12)


def _best(worth: _Worth, size: int) -> Sequence[int]:
    """Return the best of all combinations; of equal ones the first, with the lowest UUIDs."""
    return max(itertools.combinations(range(len(worth.alone)), size), key=worth.value)


def _good(worth: _Worth, size: int) -> Sequence[int]:
    """Return the best of a few choices that grow from one GPU, improved by swaps."""
    places = range(len(worth.alone))
    starts = places[:: math.ceil(len(places) * size / STEPS)]
    chosen = max(sorted(_grow(worth, size, start) for start in starts), key=worth.value)
    for _ in places:  # a bound: improving a choice step by step may take very many steps
        gains = [
            alone + sum([row[place] for place in chosen])
            for alone, row in zip(worth.alone, worth.together, strict=True)
        ]
        others = [place for place in places if place not in chosen]
        more, lower, old, new = max(
            (gains[new] - worth.together[old][new] - gains[old], old - new, old, new)
            for old in chosen
            for new in others
        )
        if (more, lower) <= (0, 0):
            break
        chosen = sorted({*chosen, new} - {old})
    return chosen


def _grow(worth: _Worth, size: int, start: int) -> list[int]:
    """Return *start* and the candidates that add most to the choice, one after the other."""
    chosen, gains = [start], worth.alone
    free = [place for place in range(len(gains)) if place != start]
    while len(chosen) < size:
        gains = [*map(add, gains, worth.together[chosen[-1]])]
        chosen.append(max(free, key=gains.__getitem__))
        free.remove(chosen[-1])
    return sorted(chosen)
