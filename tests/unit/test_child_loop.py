"""The life of an asyncio child: it gives signs of life, takes its orders, and ends when told to."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from proto.channel import Channel
from proto.child_loop import ChildLoop, Ending
from proto.control import Beat, ExitCode, Ready, Register, Report, Stop, Unknown
from proto.reasons import Reason, ReasonKind

SILENT = Unknown(Reason(ReasonKind.MONITOR_SILENT))


async def forever() -> None:
    """Work until cancelled, as the tasks of children do."""
    await asyncio.get_running_loop().create_future()


def live(
    supervisor: Callable[[Channel], None],
    *tasks: Callable[[], Coroutine[Any, Any, None]],
    on_beat: Callable[[ChildLoop], None] = lambda _: None,
) -> tuple[Ending, list[object], list[object]]:
    """Run a child; return its ending, the orders that it took, and what the supervisor heard.

    *supervisor* does its part on its end of the channel before the child begins.
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
    """Return a supervisor that gives these *orders*."""

    def supervisor(channel: Channel) -> None:
        for order in orders:
            assert channel.send(order)

    return supervisor


def test_it_is_ready_and_gives_a_sign_of_life_before_it_takes_orders() -> None:
    """The supervisor hears Ready, then a Beat, even of a child that is told to stop at once."""
    ending, taken, heard = live(tell(Stop()), forever)
    assert (ending, taken, heard) == (Ending(), [], [Ready(), Beat()])


def test_orders_are_taken_in_turn_and_those_for_others_ignored() -> None:
    """What a child has no use for does not end it, nor keep it from the orders after."""
    ending, taken, _ = live(tell(SILENT, Register(), SILENT, Stop(withdraw=True)), forever)
    assert taken == [SILENT, SILENT]
    assert ending == Ending(ExitCode.DONE, withdraw=True)


def test_the_supervisors_end_is_an_order_to_stop() -> None:
    """A child whose channel ends ends too, and withdraws nothing."""
    ending, _, _ = live(Channel.close, forever)
    assert ending == Ending()


def test_a_report_that_comes_down_is_nonsense_and_ignored() -> None:
    """Only orders are taken from above."""

    def supervisor(channel: Channel) -> None:
        report: Report = Ready()
        channel.send(report)
        channel.send(Stop())

    ending, taken, _ = live(supervisor, forever)
    assert (ending, taken) == (Ending(), [])


def test_a_child_can_end_itself() -> None:
    """The first word counts: an order to stop that comes later changes nothing."""

    def on_beat(life: ChildLoop) -> None:
        life.end(Ending(ExitCode.AGAIN))
        life.end(Ending(ExitCode.DONE))

    ending, _, _ = live(lambda _: None, forever, on_beat=on_beat)
    assert ending == Ending(ExitCode.AGAIN)


def test_all_tasks_are_cancelled_at_the_end() -> None:
    """Each task is told, so that it can put away what it holds."""
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
    """A child without one of its tasks would live on and do half of its work."""

    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ExceptionGroup) as raised:
        live(lambda _: None, forever, broken)
    assert [str(error) for error in raised.value.exceptions] == ["broken"]
