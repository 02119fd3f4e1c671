"""What a chaos run knows of each GPU beyond the simulated node, and what judges new lists."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Gpus:
    """The history of the GPUs, by UUID; faults change it."""

    relapses: dict[str, int] = field(default_factory=dict)
    """The number of faults of each GPU since the node's boot."""
    not_before: dict[str, float] = field(default_factory=dict)
    """The earliest time at which a GPU may be Healthy again."""
    broken_shown: set[str] = field(default_factory=set)
    """Broken GPUs that the kubelet's list has shown as Unhealthy."""
    unseen: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The MIG layouts before a change, of GPUs that do not answer and so do not show it."""
    hit: int | None = None
    """The index of the GPU that the first fault of this step hit."""
    steady: frozenset[str] = frozenset()
    """GPUs that may not be listed as Unhealthy during this step."""

    def begin(self) -> None:
        """Begin a step."""
        self.hit, self.steady = None, frozenset()

    def excuse(self) -> None:
        """Excuse lists that show GPUs as Unhealthy: the machine stood still, so all seem silent."""
        self.steady = frozenset()
        self.broken_shown.clear()

    def judge(
        self, listed: Mapping[str, set[bool]], broken: frozenset[str], now: float
    ) -> Iterator[str]:
        """Yield each GPU that is listed as it may not be; *listed* is how its devices are."""
        self.broken_shown &= broken
        for uuid, states in listed.items():
            if states == {False} and uuid in broken:
                self.broken_shown.add(uuid)
            if True in states and uuid in broken and uuid in self.broken_shown:
                yield f"{uuid} is listed as Healthy although it is broken"
                self.broken_shown.discard(uuid)
            if False in states and uuid in self.steady:
                yield f"{uuid} is listed as Unhealthy although it is well"
            if True in states and now < self.not_before.get(uuid, 0.0):
                yield f"{uuid} is listed as Healthy before its quiet period ended"
                del self.not_before[uuid]
