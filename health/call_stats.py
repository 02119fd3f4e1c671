"""Add up the calls of several threads."""

from collections import Counter
from collections.abc import Iterable

from proto.calls import CallStats


def total(stats: Iterable[CallStats]) -> tuple[CallStats, ...]:
    """Return the calls of all threads together."""
    found: dict[str, CallStats] = {}
    for call in stats:
        before = found.get(call.call, CallStats(call.call, 0, 0.0))
        errors = Counter(before.errors) + Counter(call.errors)
        count, seconds = before.count + call.count, before.seconds + call.seconds
        found[call.call] = CallStats(call.call, count, seconds, dict(errors))
    return tuple(found.values())
