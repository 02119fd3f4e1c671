"""The process that writes the node's labels into the file that node feature discovery reads.

It gets the node from the supervisor, and the health of the devices from the health bus if the
labels tell of it. A disk that hangs stops only this process.
"""

import asyncio
import time
from pathlib import Path

import zmq

from proto import bus
from proto.channel import Channel
from proto.child_loop import ChildLoop, Orders, Task
from proto.control import LabelNode, Unknown
from proto.fitness import LastWord
from proto.labels import LabelSettings
from proto.pace import Pace
from proto.safe_paths import UnsafeError
from supervisor.labels import feature_file
from supervisor.labels.schedule import FILE_GAP, Content, clock_moved, expiry
from supervisor.labels.writer import LabelWriter, OutputError


def main(settings: LabelSettings, channel: Channel, epoch: int) -> int:
    """Run the process until the order to stop; return the exit code."""
    del epoch  # this process publishes nothing on the bus
    return asyncio.run(_live(settings, channel))


async def _live(settings: LabelSettings, channel: Channel) -> int:
    return await Labeller(settings, channel).run()


class Labeller:
    """Passes on orders and states to the writer, which writes the file."""

    def __init__(self, settings: LabelSettings, channel: Channel) -> None:
        self._settings = settings
        self._word = LastWord(time.monotonic())
        pace = Pace(FILE_GAP, settings.interval)
        self._writer = LabelWriter(settings, pace, self._put, channel.send)
        orders: Orders = {LabelNode: self._writer.on_order, Unknown: self._on_unknown}
        self._life = ChildLoop(channel, orders, self._on_beat)
        self._clock = _clock()
        """At the last write of the file."""

    async def run(self) -> int:
        """Run until the order to stop, or until the supervisor dies; return the exit code."""
        endless: list[Task] = [self._writer.run]
        if self._settings.health:
            endless.append(self._listen)
        ending = await self._life.run(*endless)
        await self._writer.write_again()
        return ending.code

    async def _put(self, content: Content) -> bool:
        self._clock = _clock()
        text = feature_file.text(content.labels, expiry(self._settings.interval, time.time()))
        file = self._settings.file
        try:
            feature_file.write(Path(file), text)
        except UnsafeError as error:  # it names the folder, and says what to do
            raise OutputError(str(error)) from error
        except OSError as error:
            raise OutputError(f"cannot write {feature_file.trouble(file, error)}") from error
        return True

    async def _listen(self) -> None:
        inbox = bus.health_subscriber(zmq.Context(), self._settings.health_bus)
        async for state in bus.node_states(inbox):
            self._tell(self._word.after(state, time.monotonic()))

    def _on_unknown(self, order: Unknown) -> None:
        self._tell(self._word.denied(order))

    def _on_beat(self) -> None:
        if self._word.silent(time.monotonic(), self._settings.stale_after):
            self._tell(self._word)
        if self._settings.interval and clock_moved(self._clock, _clock()):
            self._writer.renew()  # else NFD may ignore the file until its next turn

    def _tell(self, word: LastWord) -> None:
        self._word = word
        self._writer.on_word(word)


def _clock() -> float:
    """Return how far the wall clock is ahead of the monotonic one, in seconds."""
    return time.time() - time.monotonic()
