"""The process between the MPS daemons' keepers and everybody who wants to know of the daemons.

It receives the daemons' states from the keepers and publishes them as one, for the plugin. It also
receives the node's state from the plugin and reports the inventory to the supervisor: so this tree
needs no driver, and the daemons stay while the plugin is restarted. One asyncio loop.
"""

import asyncio
import time

import msgspec
import zmq
from loguru import logger

from proto import bus
from proto.channel import Channel
from proto.child_loop import ChildLoop, Ending
from proto.control import ExitCode, Inventoried, Left, ServiceState, Stop
from proto.host import Identity
from proto.messages import Inventory, MpsState, NodeState
from proto.mps import MpsDaemon
from proto.mps_bus import MpsBusSettings
from supervisor.mps import leftovers, merged
from supervisor.mps.merged import Word

FAREWELL = 500
"""Most milliseconds for the last message to reach the subscribers."""


def main(settings: MpsBusSettings, channel: Channel, epoch: int) -> int:
    """Run the process until it is told to stop; return the exit code."""
    return asyncio.run(_live(settings, channel, epoch))


async def _live(settings: MpsBusSettings, channel: Channel, epoch: int) -> int:
    return await MpsBus(settings, channel, epoch).run()


class MpsBus:
    """Keeps the last word of each keeper, and publishes all of them."""

    def __init__(self, settings: MpsBusSettings, channel: Channel, epoch: int) -> None:
        self._settings = settings
        self._channel = channel
        self._epoch = epoch
        self._sequence = 0
        self._words: dict[str, Word] = {}
        self._kept: frozenset[str] | None = None
        """The devices that have a keeper; None: not known yet."""
        self._began = time.monotonic()
        """When it became known which devices have a keeper."""
        self._published: tuple[MpsDaemon, ...] | None = None
        self._inventory: Inventory | None = None
        self._ends = False
        """Whether the keepers are ending all daemons."""
        self._life = ChildLoop(
            channel, {ServiceState: self._on_service, Stop: self._on_stop}, self._on_beat
        )
        self._context = context = zmq.Context()
        self._health = bus.health_subscriber(context, settings.health_bus)
        self._keepers = bus.telemetry_subscriber(context, settings.keepers_bus)
        self._keepers_file = Identity.of(settings.keepers_bus)
        self._publisher = bus.MpsPublisher(context, settings.mps_bus)

    async def run(self) -> int:
        """Run until the order to stop, or until the supervisor dies; return the exit code."""
        ending = await self._life.run(
            self._follow_monitor, self._follow_keepers, self._greet, self._look_for_leftovers
        )
        if self._ends:
            self._context.destroy(FAREWELL)
        return ending.code

    def _on_service(self, state: ServiceState) -> None:
        before, self._kept = self._kept, merged.kept(state)
        if before is None:
            self._began = time.monotonic()
        # A keeper that starts again later has to be heard again.
        known = self._kept or frozenset()
        self._words = {uuid: word for uuid, word in self._words.items() if uuid in known}
        self._tell_changes()

    def _on_stop(self, _: Stop) -> None:
        """Tell at once that no daemon can be used: it would be known as ready until it is stale.

        If the supervisor was killed, nothing is told: its successor adopts the daemons.
        """
        self._ends = True
        self._publish()
        self._life.end(Ending())

    async def _follow_keepers(self) -> None:
        while True:
            state = await bus.receive(self._keepers)
            if isinstance(state, MpsState):
                for daemon in state.daemons:
                    self._words[daemon.uuid] = Word(daemon, time.monotonic(), time.time())
                self._tell_changes()

    async def _follow_monitor(self) -> None:
        """Report each new inventory; the plugin may start again, and then counts anew."""
        logger.info("waiting for the GPUs that gpu-sharing-plugin run finds")
        while True:
            state = await bus.receive(self._health)
            if isinstance(state, NodeState):
                found = msgspec.structs.replace(state.inventory, links=())
                if found != self._inventory:
                    self._inventory = found
                    self._channel.send(Inventoried(found))

    async def _greet(self) -> None:
        """Send everything to each new subscriber, at once."""
        while True:
            await self._publisher.joined()
            self._publish()

    async def _look_for_leftovers(self) -> None:
        try:
            # In a thread: the disk may hang, but nobody waits for this.
            look = asyncio.to_thread(
                leftovers.find, self._settings.root, self._settings.state_folder
            )
            found = await look
        except OSError as error:
            logger.warning("cannot look for MPS daemons of an earlier run", error=str(error))
        else:
            self._channel.send(Left(found))

    def _on_beat(self) -> None:
        if not self._publisher.reachable() or (
            Identity.of(self._settings.keepers_bus) != self._keepers_file
        ):
            logger.warning("restarting the MPS bus: one of its sockets was deleted or replaced")
            self._life.end(Ending(ExitCode.AGAIN))
        self._publish()

    def _tell_changes(self) -> None:
        if self._known() != self._published:
            self._publish()

    def _known(self) -> tuple[MpsDaemon, ...] | None:
        """Return the daemons to publish; None: not all keepers have spoken yet."""
        now, kept = time.monotonic(), self._kept
        if kept is None or not merged.complete(self._words, kept, self._began, now):
            return None
        daemons = merged.merged(self._words, kept, now, self._settings.stale_after)
        return merged.ending(daemons, time.time()) if self._ends else daemons

    def _publish(self) -> None:
        daemons = self._known()
        if daemons is not None:
            self._published = daemons
            self._sequence += 1
            self._publisher.publish(
                MpsState(epoch=self._epoch, sequence=self._sequence, daemons=daemons)
            )
