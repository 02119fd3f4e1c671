"""The order of the faults in a run: a pure function of the seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from tests.chaos.kinds import Kind

TWO = 0.15
"""The share of steps in which two faults happen at once."""

OFTEN = 0.5
"""This share for faults of the group "gpu", which may change nothing of any other fault."""

TOGETHER = {
    "device": ("process", "kubelet", "bus", "gpu", "http"),
    "kubelet": ("process", "bus"),
    "label": ("device", "process", "kubelet", "bus"),
    "gpu": ("device", "process", "kubelet", "bus", "service", "operator", "label", "http"),
}
"""For each group: the groups of faults that may happen at the same time."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault or two at once, and the seed for everything random in them."""

    number: int
    names: tuple[str, ...]
    seed: str


def schedule(kinds: Mapping[str, Kind], seed: int, faults: int) -> Sequence[Step]:
    """Return the steps of a run: first each kind of fault once, then random kinds by weight."""
    dice = Random(seed)  # noqa: S311 - reproducible, not secret
    deck: list[str] = []
    steps: list[Step] = []
    counted = 0
    while counted < faults:
        if not deck:
            once = not steps
            deck = [kind.name for kind in kinds.values() for _ in range(1 if once else kind.weight)]
            dice.shuffle(deck)
        names = [deck.pop()]
        group = kinds[names[0]].group
        others, share = TOGETHER.get(group, ()), OFTEN if group == "gpu" else TWO
        fitting = [name for name in deck if kinds[name].group in others]
        if fitting and counted + 1 < faults and dice.random() < share:
            names.append(fitting[-1])
            deck.remove(fitting[-1])
        steps.append(Step(len(steps) + 1, tuple(names), f"{seed}/{len(steps)}"))
        counted += len(names)
    return steps


def pairs(
    kinds: Mapping[str, Kind], pair: tuple[str, str], seed: int, faults: int
) -> Sequence[Step]:
    """Return the steps of a run in which these two faults always happen at once.

    Their order is any in which a schedule may have them; ValueError if there is none.
    """
    orders = [
        (first, second)
        for first, second in (pair, pair[::-1])
        if kinds[second].group in TOGETHER.get(kinds[first].group, ())
    ]
    if not orders:
        raise ValueError(f'cannot inject "{pair[0]}" with "{pair[1]}": no time limit is known')
    dice = Random(seed)  # noqa: S311 - reproducible, not secret
    return [Step(n + 1, dice.choice(orders), f"{seed}/{n}") for n in range((faults + 1) // 2)]
