"""Which devices a container should get; the order of the IDs in a request does not matter."""

import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

from proto.worker import AllocationPolicy
from workers.devices import Replica
from workers.pools import Pools
from workers.topology import Topology

CACHED = 1024
"""Answers that are cached for requests for whole GPUs."""


class Allocator:
    """Chooses devices of one resource; make a new one when plan or topology changes."""

    def __init__(
        self, known: Mapping[str, Replica], policy: AllocationPolicy, topology: Topology
    ) -> None:
        replicas = sorted(known.values(), key=_order)
        self._policy = policy
        self._ids = [replica.id for replica in replicas]
        self._places = {name: place for place, name in enumerate(self._ids)}
        counts = Counter(replica.gpu for replica in replicas)
        self._spans = [*itertools.pairwise([0, *itertools.accumulate(counts.values())])]
        """For each physical GPU: start and end of its devices in the order of `_ids`."""
        self._pools = Pools(known, policy)
        self._whole = all(r.id == r.uuid == r.gpu for r in replicas)
        # Only for whole GPUs: with replicas, building the cache key takes longer than the answer.
        self._choose = functools.lru_cache(CACHED)(topology.choose)

    def preferred(
        self, available: Collection[str], required: Collection[str], size: int
    ) -> list[str]:
        """Return *size* of the *available* IDs, the *required* first, or fewer if IDs run out.

        Whole GPUs are chosen by topology, replicas and MIG instances by the allocation policy.
        Several devices are of one pool, or else Allocate would refuse them.
        """
        if self._pools.mps and size > 1 and (pool := self._pools.best(available, required, size)):
            if pool.device:
                return self._of_one(pool.ids, {*required}, size)
            available = pool.ids
        if self._whole:
            # Only known IDs: a caller that sends others would fill the cache with them.
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

    def _of_one(self, ids: Iterable[str], required: AbstractSet[str], size: int) -> list[str]:
        """Return *size* of these IDs of one device, the *required* first."""
        return sorted({*ids}, key=lambda name: (name not in required, self._places[name]))[:size]

    def _more(self, free: bytearray, given: Iterable[int], size: int) -> list[int]:
        """Return up to *size* more of the *free* places; mark these and the *given* as taken."""
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
        """Return the sort key of a GPU: the lowest is used first; equal keys are sorted by UUID."""
        match self._policy:
            case AllocationPolicy.DISTRIBUTED | AllocationPolicy.SPREAD:
                return used, -left
            case AllocationPolicy.PACKED:
                return not used, left


def doubled(known: Mapping[str, Replica], ids: Iterable[str]) -> list[str]:
    """Return the UUIDs of the physical GPUs that have more than one device among *ids*."""
    counts = Counter(known[name].gpu for name in {*ids} if name in known)
    return sorted(gpu for gpu, count in counts.items() if count > 1)


def _order(replica: Replica) -> tuple[str, str, int]:
    return replica.gpu, replica.uuid, replica.number
