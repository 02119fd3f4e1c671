"""Child processes that behave badly towards the supervisor: one floods it, one keeps it busy."""

import itertools
import select

from proto.channel import Channel, Sent
from proto.cluster import Labelled
from proto.control import BEAT_EVERY, Beat, Hung, Inventoried, Ready
from proto.messages import Inventory

NOTHING = Inventoried(Inventory("", ()))


def main(habit: str, channel: Channel, epoch: int) -> int:
    """Send reports by *habit* until killed."""
    del epoch
    channel.send(Ready())
    channel.send(Beat())
    for number in itertools.count():
        match habit:
            case "flood":
                report = (Beat(), Hung("call"), Labelled(str(number)))[number % 3]
                if channel.send(report) is not Sent.TAKEN:
                    select.select([], [channel], [])
            case "find GPUs":
                channel.send(Beat())
                channel.send(NOTHING)
                select.select([channel], [], [], BEAT_EVERY / 10)
            case "hang":
                select.select([channel], [], [], BEAT_EVERY)
            case _:
                channel.send(Beat())
                select.select([channel], [], [], BEAT_EVERY / 10)
    return 0
