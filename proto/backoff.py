"""How long to wait before a request or a write that failed is tried again."""

FIRST, LAST = 1.0, 60.0
"""Seconds between attempts: the first and the longest; they double."""

REJOIN = 20.0
"""Seconds over which nodes spread when something that worked ends for all of them at once."""


def delay(failures: int, chance: float, last: float = LAST) -> float:
    """Return the seconds until the next attempt; *chance* (0 to 1) is random.

    Without it all nodes of a cluster would retry at the same moment after an outage.
    """
    return min(last, FIRST * 2.0 ** min(failures - 1, 30)) * (0.5 + chance / 2)


def rejoin(chance: float) -> float:
    """Return the seconds until the first attempt after something that worked for long has ended.

    An API server that restarts ends the watches of all nodes in the same moment.
    """
    return REJOIN * chance
