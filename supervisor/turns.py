"""How much the supervisor does in one turn of its loop, and whether a turn was long for a reason.

A turn that is short whatever the children send is what makes all its promises hold: other
children are read, requests answered and hanging processes killed in the next turn.
"""

import math
import select
import time
from collections.abc import Iterable, Sequence
from typing import Any

from proto.channel import Channel, ClosedError
from proto.cluster import Labelled, Unlabelled
from proto.control import Beat, Inventoried, Settled, Withhold
from proto.holdings import Holdings
from proto.probe import Probed

REPORTS = 64
"""Most reports of one child that a turn reads; the others wait in the channel."""

LAST_REPORTS = 1024
"""Most reports of a child that has ended: a full channel has fewer."""

READ_FOR = 0.1
"""Seconds after which a turn reads no more reports of a child: a few of them can be very long."""

STATES = (Beat, Holdings, Inventoried, Labelled, Probed, Settled, Unlabelled, Withhold)
"""Reports that an equal one replaces: only the newest of each counts."""

STALL = 5.0
"""Seconds by which a tick is late if this process, or the whole machine, stood still."""


def wait(sources: Iterable[Any], seconds: float) -> set[object]:
    """Return the *sources* that are readable or have ended, after at most so many *seconds*.

    A source is a descriptor, or has one. `multiprocess.connection.wait` does the same, and takes
    a fifth of the processor time of an idle loop.
    """
    poll, found = select.poll(), {}
    for source in sources:
        descriptor = source if isinstance(source, int) else source.fileno()
        found[descriptor] = source
        poll.register(descriptor, select.POLLIN)
    # Rounded up: a wait that ends too early would be repeated for the rest.
    return {found[ready] for ready, _ in poll.poll(math.ceil(seconds * 1000))}


def receive(channel: Channel, *, ended: bool) -> tuple[list[object], bool]:
    """Return the next reports of a child, and whether the channel has ended.

    *ended*: whether the child has, so that no turn comes for what is left.
    """
    found: list[object] = []
    until = time.monotonic() + READ_FOR
    try:
        while report := channel.receive():
            found.append(report)
            if len(found) >= LAST_REPORTS:
                break
            if not ended and (len(found) >= REPORTS or time.monotonic() >= until):
                break
    except ClosedError:
        return found, True
    return found, False


def newest(reports: Sequence[object]) -> list[object]:
    """Return *reports* in their order, without states that a later report replaces."""
    last = {type(report): place for place, report in enumerate(reports)}
    return [
        report
        for place, report in enumerate(reports)
        if not isinstance(report, STATES) or last[type(report)] == place
    ]


def stood_still(late: float, worked: float) -> bool:
    """Return whether the machine, or this process, stood still while a tick was *late*.

    Not if this process *worked* (CPU seconds since the tick before): the others could work too.
    """
    return late > STALL and worked < late / 2
