"""Which devices a container should get: the same answer to the same question, in any order."""

import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping

from proto.worker import AllocationPolicy
from workers.devices import Replica
from workers.topology import Topology

CACHED = 1024
"""Answers that are remembered for whole GPUs."""


class Allocator:
    """Prefers among the devices of one resource; a new plan or topology takes a new allocator."""

    def __init__(
        self, known: Mapping[str, Replica], policy: AllocationPolicy, topology: Topology
    ) -> None:
        replicas = sorted(known.values(), key=_order)
        self._policy = policy
        self._ids = [replica.id for replica in replicas]
        self._places = {name: place for place, name in enumerate(self._ids)}
        counts = Counter(replica.gpu for replica in replicas)
        self._spans = [*itertools.pairwise([0, *itertools.accumulate(counts.values())])]
        """From where to where in the order each physical GPU's devices are."""
        self._whole = all(r.id == r.uuid == r.gpu for r in replicas)
        # Only these: to read a request for replicas, as a key must, takes longer than to answer it.
        self._choose = functools.lru_cache(CACHED)(topology.choose)

    def preferred(self, available: Iterable[str], required: Iterable[str], size: int) -> list[str]:
        """Return *size* of the *available* ids, the *required* first; fewer where there are fewer.

        Whole GPUs go by how they are connected, all else by the policy.
        """
        if self._whole:
            # Only what is known: what is not would fill the cache with whatever a caller sends.
            some, must = (
                tuple(sorted({name for name in names if name in self._places}))
                for names in (available, required)
            )
            return [*self._choose(some, must, size)]
        free = bytearray(len(self._ids))
        for place in map(self._places.get, available):
            if place is not None:
                free[place] = 1
        places = {self._places[name] for name in required if name in self._places}
        chosen = sorted(place for place in places if free[place])
        chosen += self._more(free, chosen, size - len(chosen))
        return [self._ids[place] for place in chosen[: max(size, 0)]]

    def _more(self, free: bytearray, given: Iterable[int], size: int) -> list[int]:
        """Return up to *size* of the *free* places beside those *given*; they are free no more."""
        taken = bytearray(len(free))
        for place in given:
            free[place], taken[place] = 0, 1
        queue = []
        for start, end in self._spans:
            used, left = 1 in taken[start:end], free.count(1, start, end)
            if left and not (used and self._policy is AllocationPolicy.SPREAD):
                queue.append((self._turn(left, used=used), start, end, left))
        heapq.heapify(queue)
        chosen: list[int] = []
        while len(chosen) < size and queue:
            _, start, end, left = heapq.heappop(queue)
            place = free.index(1, start, end)
            free[place] = 0
            chosen.append(place)
            if left > 1 and self._policy is not AllocationPolicy.SPREAD:
                turn = self._turn(left - 1, used=True)
                heapq.heappush(queue, (turn, start, end, left - 1))
        return chosen

    def _turn(self, left: int, *, used: bool) -> tuple[bool, int]:
        """Return what comes first among GPUs, the lowest; equals go by UUID."""
        match self._policy:
            case AllocationPolicy.DISTRIBUTED | AllocationPolicy.SPREAD:
                return used, -left
            case AllocationPolicy.PACKED:
                return not used, left


def doubled(known: Mapping[str, Replica], ids: Iterable[str]) -> list[str]:
    """Return the UUIDs of the physical GPUs of which *ids* are more than one device."""
    counts = Counter(known[name].gpu for name in {*ids} if name in known)
    return sorted(gpu for gpu, count in counts.items() if count > 1)


def _order(replica: Replica) -> tuple[str, str, int]:
    return replica.gpu, replica.uuid, replica.number
