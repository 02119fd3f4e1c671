"""The kinds of faults: each is a function that injects the fault, yields, and then repairs it."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random

from tests.chaos.world import World

Story = Callable[[World, Random], AsyncIterator[None]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: entering its story injects the fault, leaving it repairs the fault."""

    name: str
    group: str
    """Only faults of different groups may happen at once."""
    promise: float
    """Seconds from the fault until all invariants must hold."""
    back: float
    """Seconds from the repair until all invariants must hold; 0 if there is no repair."""
    weight: int
    story: Callable[[World, Random], AbstractAsyncContextManager[None]]


KINDS: dict[str, Kind] = {}


def fault(
    name: str, group: str, promise: float, back: float = 0.0, weight: int = 2
) -> Callable[[Story], Story]:
    """Register a story as a kind of fault."""

    def register(story: Story) -> Story:
        assert name not in KINDS, name
        told = contextlib.asynccontextmanager(story)
        KINDS[name] = Kind(name, group, promise, back, weight, told)
        return story

    return register
