"""What kinds of faults there are: each a story told in two parts, the fault and its repair."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random

from tests.chaos.world import World

Story = Callable[[World, Random], AsyncIterator[None]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault; entering its story is the fault, leaving it the repair."""

    name: str
    group: str
    """Faults of different groups may happen at once."""
    promise: float
    """Seconds from the fault until everything is as it has to be."""
    back: float
    """The same from the repair; 0: there is nothing to repair."""
    weight: int
    story: Callable[[World, Random], AbstractAsyncContextManager[None]]


KINDS: dict[str, Kind] = {}


def fault(
    name: str, group: str, promise: float, back: float = 0.0, weight: int = 2
) -> Callable[[Story], Story]:
    """Make a kind of fault of a story."""

    def register(story: Story) -> Story:
        assert name not in KINDS, name
        told = contextlib.asynccontextmanager(story)
        KINDS[name] = Kind(name, group, promise, back, weight, told)
        return story

    return register
