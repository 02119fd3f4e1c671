"""Many HTTP clients that behave badly, in a process of their own.

`python -m tests.fakes.crowd HOST PORT BEHAVIOUR COUNT` writes a line once the clients have begun,
and goes on until it is killed.
"""

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from tests.fakes.bad_clients import BEHAVIOURS, Address, Behaviour

CLIENTS = 250

BEGUN = 0.5
"""Seconds in which the clients connect; a server that does not answer must not keep us."""


async def _repeat(behaviour: Behaviour, address: Address) -> None:
    while True:
        with contextlib.suppress(OSError, ValueError):  # hung up on, or an answer cut off
            await behaviour(address)
        await asyncio.sleep(0)


async def _crowd(host: str, port: str, name: str, count: str) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(int(count)):
            group.create_task(_repeat(BEHAVIOURS[name], (host, int(port))))
        await asyncio.sleep(BEGUN)
        os.write(1, b"begun\n")


@contextlib.asynccontextmanager
async def crowded(address: Address, name: str, count: int = CLIENTS) -> AsyncIterator[int]:
    """Run so many clients, in a process of their own; yield its pid."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.crowd", address[0], str(address[1]), name, str(count)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"begun\n"
        yield process.pid
        assert process.returncode is None, "the clients have ended"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    asyncio.run(_crowd(*sys.argv[1:]))
