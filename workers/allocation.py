"""Which devices a container should get: spread over the physical GPUs, always the same answer."""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping

from workers.devices import Replica


def preferred(
    known: Mapping[str, Replica], available: Iterable[str], required: Iterable[str], size: int
) -> list[str]:
    """Return *size* of the *available* ids, the *required* first; fewer where there are no more.

    Each next device is of the GPU that gave least so far, then has most left, then the lower UUID.
    """
    free = defaultdict(list)
    for name in available:
        if replica := known.get(name):
            free[replica.gpu].append(replica)
    wanted = set(required)
    chosen = [r for group in free.values() for r in group if r.id in wanted]
    chosen.sort(key=_order)
    queue = []
    for gpu, group in free.items():
        left = [r for r in group if r.id not in wanted]
        left.sort(key=_order, reverse=True)  # the last is taken first
        queue.append((len(group) - len(left), -len(left), gpu, left))
    heapq.heapify(queue)
    while len(chosen) < size and queue:
        given, _, gpu, left = heapq.heappop(queue)
        if left:
            chosen.append(left.pop())
            heapq.heappush(queue, (given + 1, -len(left), gpu, left))
    return [replica.id for replica in chosen[: max(size, 0)]]


def _order(replica: Replica) -> tuple[str, int]:
    return replica.uuid, replica.number
