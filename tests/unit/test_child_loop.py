"""The loop of an asyncio child process: heartbeats, orders, and its end."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from proto.channel import Channel
from proto.child_loop import ChildLoop, Ending
from proto.control import Beat, ExitCode, Ready, Register, Report, Stop, Unknown
from proto.reasons import Reason, ReasonKind

SILENT = Unknown(Reason(ReasonKind.MONITOR_SILENT), epoch=1)


async def forever() -> None:
    """Run until cancelled, like the tasks of a child."""
    await asyncio.get_running_loop().create_future()


def live(
    supervisor: Callable[[Channel], None],
    *tasks: Callable[[], Coroutine[Any, Any, None]],
    on_beat: Callable[[ChildLoop], None] = lambda _: None,
) -> tuple[Ending, list[object], list[object]]:
    """Run a child; return its ending, the orders it handled, and the reports it sent.

    *supervisor* gets the supervisor's end of the channel before the child starts.
    """
    ours, theirs = Channel.pair()
    taken: list[object] = []

    async def child() -> Ending:
        orders = {Unknown: taken.append}
        life = ChildLoop(theirs, orders, lambda: on_beat(life))  # type: ignore[arg-type]
        return await asyncio.wait_for(life.run(*tasks), 10)

    with contextlib.closing(ours), contextlib.closing(theirs):
        supervisor(ours)
        ending = asyncio.run(child())
        heard: list[object] = []
        while not ours.closed and (report := ours.receive()):
            heard.append(report)
        return ending, taken, heard


def tell(*orders: Stop | Register | Unknown) -> Callable[[Channel], None]:
    """Return a supervisor that sends these orders."""

    def supervisor(channel: Channel) -> None:
        for order in orders:
            assert channel.send(order)

    return supervisor


def test_a_child_sends_ready_and_a_heartbeat_before_it_handles_orders() -> None:
    """A child sends Ready and a heartbeat even when its first order is to stop."""
    ending, taken, heard = live(tell(Stop()), forever)
    assert (ending, taken, heard) == (Ending(), [], [Ready(), Beat()])


def test_orders_are_handled_in_order_and_unknown_ones_ignored() -> None:
    """A child ignores an order that it has no handler for, and handles the orders after it."""
    ending, taken, _ = live(tell(SILENT, Register(), SILENT, Stop(withdraw=True)), forever)
    assert taken == [SILENT, SILENT]
    assert ending == Ending(ExitCode.DONE, withdraw=True)


def test_a_child_stops_when_the_supervisor_is_gone() -> None:
    """A child stops when the supervisor's end of the channel closes, and does not withdraw."""
    ending, _, _ = live(Channel.close, forever)
    assert ending == Ending()


def test_a_report_from_the_supervisor_is_ignored() -> None:
    """A child ignores a message from the supervisor that is not an order."""

    def supervisor(channel: Channel) -> None:
        report: Report = Ready()
        channel.send(report)
        channel.send(Stop())

    ending, taken, _ = live(supervisor, forever)
    assert (ending, taken) == (Ending(), [])


def test_a_child_can_end_itself() -> None:
    """A child that ends itself keeps its first exit code; a later end changes nothing."""

    def on_beat(life: ChildLoop) -> None:
        life.end(Ending(ExitCode.AGAIN))
        life.end(Ending(ExitCode.DONE))

    ending, _, _ = live(lambda _: None, forever, on_beat=on_beat)
    assert ending == Ending(ExitCode.AGAIN)


def test_all_tasks_are_cancelled_at_the_end() -> None:
    """Each task of a child that ends is cancelled, so that it can clean up."""
    cancelled = []

    async def task() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    live(tell(Stop()), task, task)
    assert cancelled == [True, True]


def test_a_task_that_fails_ends_the_child() -> None:
    """A child ends when one of its tasks fails, instead of doing half of its work."""

    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ExceptionGroup) as raised:
        live(lambda _: None, forever, broken)
    assert [str(error) for error in raised.value.exceptions] == ["broken"]
