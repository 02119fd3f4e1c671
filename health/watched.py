"""Which GPUs are watched for events, and why others are not."""

import time
from collections.abc import Iterable

from loguru import logger

from health import verdict
from health.hangs import Hangs
from health.node import Node
from proto.messages import Gpu
from proto.reasons import Reason, ReasonKind


class WatchedGpus:
    """Looks at the watches of all GPUs."""

    def __init__(self, node: Node, hangs: Hangs) -> None:
        self._node = node
        self._hangs = hangs
        self._logged = 0

    def log(self) -> None:
        """Log how many GPUs are watched for events, once no registration is under way."""
        hanging = {hang.lane for hang in self._hangs.now()}
        watches = [g for g in self._node.gpus if g.events.busy and g.events not in hanging]
        watched = sum(gpu.registered for gpu in watches)
        if watched == len(watches) and watched != self._logged:
            self._logged = watched
            if watched:
                logger.info("watching GPUs for Xid events", gpus=watched)

    def reasons(self, gpus: Iterable[Gpu], conditions: verdict.Conditions) -> dict[str, Reason]:
        """Return why *gpus* are not watched for events, by UUID."""
        # A GPU that hangs has a reason that says more.
        waiting = self._node.pending(gpus, time.monotonic())
        found = {u: why for u, why in waiting.items() if not verdict.hangs(conditions, u)}
        found |= {g.gpu.uuid: g.watch.blind for g in self._node.gpus if g.gpu and g.watch.blind}
        for hang in self._hangs.now():
            if hang.gpu and hang.gpu.gpu and hang.lane is hang.gpu.events:
                found[hang.gpu.gpu.uuid] = Reason(ReasonKind.DRIVER_HANG, hang.running.call)
        return found
