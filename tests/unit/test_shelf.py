"""The list of devices that streams send, and how they end."""

import asyncio

from tests.unit.builders import view
from workers.listing import Shelf


def test_a_slow_stream_sends_the_last_list_before_it_ends() -> None:
    """A stream that still sends an earlier list when the shelf closes gets the newest one too."""

    async def story() -> None:
        shelf = Shelf(view({"a": 1}))
        first = await shelf.next_list(None)
        shelf.put(view({}))
        shelf.close()
        last = await shelf.next_list(first)
        assert last == b""
        assert await shelf.next_list(last) is None

    asyncio.run(story())
