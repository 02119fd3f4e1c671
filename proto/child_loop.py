"""The main loop of every asyncio child: take orders, send heartbeats, end."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import msgspec
from loguru import logger

from proto.channel import Channel, ClosedError
from proto.control import Beat, ExitCode, Order, Ready, Report, Stop, until_beat

Orders = Mapping[type[msgspec.Struct], Callable[[Any], None]]
"""The handler of each order, by the order's type; without one, Stop ends the child."""

Task = Callable[[], Coroutine[Any, Any, None]]
"""A task that a child runs until it ends."""


class Ending(msgspec.Struct, frozen=True):
    """How a child ends."""

    code: ExitCode = ExitCode.DONE
    withdraw: bool = False
    """Whether the resource is removed for good, so its device list must become empty."""


class ChildLoop:
    """Runs a child's tasks until the supervisor sends Stop or ends itself."""

    def __init__(self, channel: Channel, orders: Orders, on_beat: Callable[[], None]) -> None:
        """Handle *orders* from *channel*; call *on_beat* every second, after the heartbeat."""
        self._channel = channel
        self._orders = orders
        self._on_beat = on_beat
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()

    async def run(self, *endless: Task) -> Ending:
        """Report Ready to the supervisor, run the *endless* tasks, return how the child ends."""
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._on_readable)
        self._channel.send(Ready())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(task()) for task in (*endless, self._beat)]
            ending = await self._ending
            for task in tasks:
                task.cancel()
        return ending

    def end(self, ending: Ending) -> None:
        """End the loop with *ending*; the first call counts."""
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
        if take := self._orders.get(type(order)):
            take(order)
        elif isinstance(order, Stop):
            self.end(Ending(withdraw=order.withdraw))
        else:
            logger.error(
                "ignored an order that this process does not know", order=type(order).__name__
            )

    async def _beat(self) -> None:
        while not self._ending.done():
            self._channel.send(Beat())
            self._on_beat()
            await asyncio.sleep(until_beat(time.monotonic()))
