"""Which GPUs are watched for events, and why others are not."""

import time
from collections.abc import Iterable, Mapping

from loguru import logger

from health import verdict
from health.hangs import Hang, Hangs
from health.node import Node
from proto.messages import Gpu
from proto.reasons import Reason, ReasonKind


class WatchedGpus:
    """Looks at the watches of all GPUs."""

    def __init__(self, node: Node, hangs: Hangs, deaf: Mapping[str, str]) -> None:
        """Look at *node* and *hangs*; *deaf* are the calls for events that hung before, by UUID."""
        self._node = node
        self._hangs = hangs
        self.deaf = dict(deaf)
        """The calls for events that hang, or hung before, until events are heard of again.

        Checks say nothing about them: without this, a GPU would be Healthy for a while whenever a
        new monitor begins.
        """
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

    def note(self, begun: Iterable[Hang], ended: Iterable[Hang]) -> None:
        """Keep which calls for events hang now."""
        for hang in ended:
            self.hear(hang.events_of)
        for hang in begun:
            if uuid := hang.events_of:
                self.deaf[uuid] = hang.running.call

    def hear(self, uuid: str) -> None:
        """Note that a wait for events of the GPU *uuid* has returned."""
        self.deaf.pop(uuid, None)

    def reasons(self, gpus: Iterable[Gpu], conditions: verdict.Conditions) -> dict[str, Reason]:
        """Return why *gpus* are not watched for events, by UUID."""
        # A GPU that hangs has a reason that says more.
        waiting = self._node.pending(gpus, time.monotonic())
        found = {u: why for u, why in waiting.items() if not verdict.hangs(conditions, u)}
        found |= {g.gpu.uuid: g.watch.blind for g in self._node.gpus if g.gpu and g.watch.blind}
        known = (g.gpu.uuid for g in self._node.gpus if g.gpu and g.gpu.events)
        for uuid in self.deaf.keys() & set(known):
            found[uuid] = Reason(ReasonKind.DRIVER_HANG, self.deaf[uuid])
        return found
