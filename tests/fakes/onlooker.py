"""`simulate` and `drill`, used as a newcomer types them."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.fakes import commands
from tests.fakes.service import COMMAND, PATIENCE

INSTALLED = Path(sys.executable).with_name("gpu-sharing-plugin")


class Onlooker:
    """The reader of what `simulate` prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self, start: str) -> str:
        """Return the rest of the next line that begins with *start*."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            async for raw in self.process.stdout:
                line = raw.decode().rstrip()
                if line.startswith(start):
                    return line.removeprefix(start).strip()
        raise AssertionError(f"simulate ended without a line that begins with {start}")

    async def interrupt(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@asynccontextmanager
async def simulate(
    *options: str, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> AsyncIterator[Onlooker]:
    """Run `simulate`, as the installed command if in a *folder*; end it afterwards."""
    command = (str(INSTALLED),) if folder else COMMAND
    process = await asyncio.create_subprocess_exec(
        *(*command, "simulate", *options),
        stdout=asyncio.subprocess.PIPE,
        cwd=folder,
        env={**os.environ, **(environment or {})},
    )
    try:
        yield Onlooker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def drill(*words: str) -> int:
    """Run `drill` and return its exit code."""
    return (await asyncio.to_thread(commands.run, "drill", *words)).returncode
