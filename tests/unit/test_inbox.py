"""ZeroMQ sockets in an asyncio loop."""

import asyncio
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from proto import bus
from proto.inbox import Inbox
from proto.messages import MpsState

PATIENCE = 10.0

Socket = zmq.Socket[bytes]
Pair = tuple[Socket, Socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Yield two connected sockets that pass messages on at once."""
    with (
        zmq.Context() as context,
        context.socket(zmq.PAIR) as near,
        context.socket(zmq.PAIR) as far,
    ):
        near.linger = far.linger = 0
        near.bind("inproc://pair")
        far.connect("inproc://pair")
        yield near, far


def is_signalled(socket: Socket) -> bool:
    """Return whether the socket's descriptor is readable."""
    return bool(select.select([socket.fileno()], [], [], 0)[0])


def test_messages_arrive_in_order(pair: Pair) -> None:
    """Messages that wait and those that come later are received, each once."""
    near, far = pair

    async def story() -> None:
        inbox = Inbox(near)
        far.send(b"1")
        far.send(b"2")
        assert [await inbox.next(), await inbox.next()] == [b"1", b"2"]
        for text in (b"3", b"4"):
            later = asyncio.create_task(inbox.next())
            await asyncio.sleep(0)
            assert not later.done()
            far.send(text)
            assert await asyncio.wait_for(later, PATIENCE) == text

    asyncio.run(story())


def test_a_wait_that_is_cancelled_takes_no_message(pair: Pair) -> None:
    """The next wait gets the message, and the loop no longer watches the descriptor meanwhile."""
    near, far = pair

    async def story() -> None:
        inbox = Inbox(near)
        wait = asyncio.create_task(inbox.next())
        await asyncio.sleep(0)
        wait.cancel()
        await asyncio.gather(wait, return_exceptions=True)
        assert not asyncio.get_running_loop().remove_reader(near.fileno())
        far.send(b"1")
        assert await asyncio.wait_for(inbox.next(), PATIENCE) == b"1"

    asyncio.run(story())


def test_a_message_is_found_whose_signal_another_use_of_the_socket_took(pair: Pair) -> None:
    """`look` finds it; the descriptor does not tell of it any more."""
    near, far = pair

    async def story() -> None:
        inbox = Inbox(near)
        wait = asyncio.create_task(inbox.next())
        await asyncio.sleep(0)
        inbox.look()
        far.send(b"1")
        assert is_signalled(near)
        near.get(zmq.EVENTS)  # as a send may do it
        assert not is_signalled(near)
        inbox.look()
        assert await asyncio.wait_for(wait, PATIENCE) == b"1"

    asyncio.run(story())


def test_a_publisher_notices_whose_subscription_its_message_took(tmp_path: Path) -> None:
    """A new subscriber is noticed though sending takes its signal off the descriptor."""
    context = zmq.Context()
    publisher = bus.MpsPublisher(context, f"{tmp_path}/mps.ipc")
    subscriber = bus.MpsSubscriber(context, f"{tmp_path}/mps.ipc")
    socket = publisher._socket  # noqa: SLF001 - its descriptor

    async def story() -> None:
        wait = asyncio.create_task(publisher.joined())
        await asyncio.sleep(0)
        subscriber.switch(on=True)
        # The loop stands still meanwhile, so it cannot see the signal.
        while not int(socket.get(zmq.EVENTS)) & zmq.POLLIN:
            assert select.select([socket.fileno()], [], [], PATIENCE)[0]
        publisher.publish(MpsState(epoch=1, sequence=1, daemons=()))
        assert not is_signalled(socket)
        await asyncio.wait_for(wait, PATIENCE)

    try:
        asyncio.run(story())
    finally:
        context.destroy(0)
