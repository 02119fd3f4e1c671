"""How long to wait before a request or a write that failed is tried again."""

FIRST, LAST = 1.0, 60.0
"""Seconds between attempts: the first and the longest; they double."""


def delay(failures: int, chance: float) -> float:
    """Return the seconds until the next attempt; *chance* (0 to 1) is random.

    Without it all nodes of a cluster would retry at the same moment after an outage.
    """
    return min(LAST, FIRST * 2.0 ** min(failures - 1, 30)) * (0.5 + chance / 2)
