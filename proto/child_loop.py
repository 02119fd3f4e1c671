"""The life of an asyncio child, the same for all: take orders, give signs of life, end."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from loguru import logger

from proto.channel import Channel, ClosedError
from proto.control import Beat, ExitCode, Order, Ready, Report, Stop, until_beat

Orders = Mapping[type[msgspec.Struct], Callable[[Any], None]]
"""What to do on each order but Stop, by its type."""

Task = Callable[[], Coroutine[Any, Any, None]]
"""Something that a child does until it ends."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ends."""

    code: ExitCode = ExitCode.DONE
    withdraw: bool = False
    """Whether its resource is gone for good."""


class ChildLoop:
    """Runs a child's tasks until the order to stop, or the supervisor's end, which is one."""

    def __init__(self, channel: Channel, orders: Orders, on_beat: Callable[[], None]) -> None:
        """Take *orders* from the *channel*; call *on_beat* every second, after the sign of life."""
        self._channel = channel
        self._orders = orders
        self._on_beat = on_beat
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def run(self, *endless: Task) -> Ending:
        """Tell the supervisor that the child works, run its *endless* tasks, return its ending."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._on_readable)
        self._channel.send(Ready())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(task()) for task in (*endless, self._beat)]
            ending = await self._ending
            for task in tasks:
                task.cancel()
        return ending

    def end(self, ending: Ending) -> None:
        """End like this, unless the child ends already."""
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        if not self._ending.done():
            self._ending.set_result(ending)

    def _on_readable(self) -> None:
        try:
            while order := self._channel.receive():
                self._on_order(order)
        except ClosedError:
            self.end(Ending())

    def _on_order(self, order: Order | Report) -> None:
        if isinstance(order, Stop):
            self.end(Ending(withdraw=order.withdraw))
        elif take := self._orders.get(type(order)):
            take(order)
        else:
            logger.error(
                "ignored an order that this process does not know", order=type(order).__name__
            )

    async def _beat(self) -> None:
        while not self._ending.done():
            self._channel.send(Beat())
            self._on_beat()
            await asyncio.sleep(until_beat(time.monotonic()))
