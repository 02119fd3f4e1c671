"""The orders of the supervisor to the monitor, but for those that it must still wait to do."""

import time
from collections import deque

from loguru import logger

from health import verdict
from health.hangs import Hangs
from health.node import Node
from health.observed import Observed
from proto.channel import Channel, ClosedError
from proto.control import Marked, MarkHealthy, Stop, Withhold
from proto.probe import Probed
from proto.texts import NAME_LIMIT, shortened


class Orders:
    """Takes orders from the channel, and does those that have to wait for a health check."""

    def __init__(self, channel: Channel, node: Node, hangs: Hangs, observed: Observed) -> None:
        self._channel = channel
        self._node = node
        self._hangs = hangs
        self._observed = observed
        self._marks: deque[tuple[str, float]] = deque()
        """Devices that an operator marked healthy, and when; answered in this order."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when an order waits."""
        return self._channel.fileno()

    def take(self) -> bool:
        """Take all orders that wait; return whether the monitor has to stop."""
        stop = False
        try:
            while order := self._channel.receive():
                match order:
                    case MarkHealthy():
                        self._marks.append((order.device, time.monotonic()))
                    case Withhold():
                        self._observed.withhold(order, time.monotonic())
                    case Probed():
                        self._observed.grey.probed(order.failed)
                        self._observed.publish()
                    case Stop():
                        stop = True
                    case _:
                        logger.error(
                            "ignored an order that the health monitor does not know",
                            order=type(order).__name__,
                        )
        except ClosedError:
            return True
        return stop

    def go_on(self, now: float) -> None:
        """Mark the devices healthy for which the health check is done."""
        while self._marks and self._mark(*self._marks[0], now):
            self._marks.popleft()

    def _mark(self, device: str, at: float, now: float) -> bool:
        """Clear the faults of a device for an operator; return whether the order is done.

        A check that began after the order decides: what it shows, the operator's word cannot clear.
        """
        uuids, told = verdict.named(self._observed.gpus, device), shortened(device, NAME_LIMIT)
        if not uuids:
            self._channel.send(Marked(error=f'cannot find a GPU or MIG instance "{told}"'))
            return True
        gpu = self._node.holding(uuids[0])
        if gpu and gpu.index in self._hangs.by_index():
            self._channel.send(Marked(error=f'cannot check "{told}": the driver hangs'))
            return True
        if gpu and (gpu.looked is None or gpu.looked.look.began < at):
            gpu.look_at = min(gpu.look_at, at)
            return False
        logger.info("an operator marked a device healthy", device=device)
        self._observed.mark(uuids, now)
        self._channel.send(Marked())
        return True
