"""Reap processes that others left to this one: the first process of a container inherits them."""

import contextlib
import os
from collections.abc import Collection

MOST = 100
"""Most processes that one call reaps; the next call reaps the others."""


def reap(ours: Collection[int]) -> None:
    """Reap the children of this process that have ended, but for *ours*; never waits.

    The loop reaps *ours* by their descriptors: it needs their exit codes.
    """
    with contextlib.suppress(ChildProcessError):
        for _ in range(MOST):
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            # The kernel shows the same process until it is reaped: the others wait for a second.
            if found is None or found.si_pid in ours:
                return
            os.waitpid(found.si_pid, os.WNOHANG)
