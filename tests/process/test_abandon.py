"""The supervisor replaces a monitor that it cannot kill, because the driver blocks the process."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from tests.fakes.service import PATIENCE, Entry, until

SCRIPT = """
import sys
from msgspec.structs import replace
from supervisor import loop, logs
from supervisor.child import Process
from supervisor.plan import Plan
from supervisor.restart_policy import Limits
from supervisor.compose import compose
from supervisor.maintenance import Maintenance
from supervisor.config.choose_file import Wish
from supervisor.config.settings import load
from supervisor.state import ServiceSource

class Unkillable(Process):
    '''A process that does not die, as one in the middle of a call of the driver's.'''
    def kill(self):
        pass

folder = sys.argv[1]
flags = {"service.runtimeDir": folder, "service.stateDir": folder + "/state"}
flags |= {"service.kubeletSocket": "", "service.devicePluginPath": folder}
flags |= {"service.metricsAddress": "127.0.0.1:0", "service.simulatedNode": folder + "/node.json"}
flags |= {"service.logFormat": "json"}
logs.set_up("supervisor", logs.Format.JSON, logs.Level.INFO)

def service(wish):
    made = compose(load(flags, {}, wish))
    children = tuple(child for child in made.children if child.essential)
    fork = lambda spec, epoch: Unkillable(spec, epoch, made.fork.keywords["logging"])
    limits = Limits(silence=2.0, reap=0.2)
    nothing = lambda inventory: Plan(())
    return replace(made, children=children, fork=fork, limits=limits, plan=nothing)

loop.Supervisor(ServiceSource(lambda wish: b"", lambda data: service(Wish())), Maintenance()).run()
"""


def test_at_most_two_unkillable_monitors_are_replaced(folder: Path) -> None:
    """The supervisor replaces at most two monitors that it cannot kill; when one of them ends, it
    starts the next.
    """

    async def story() -> None:
        (folder / "node.json").write_text('{"gpus": [{}]}')
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SCRIPT, str(folder), stderr=asyncio.subprocess.PIPE
        )
        entries: list[Entry] = []
        reader = asyncio.create_task(read(process, entries))
        try:
            for number in range(1, 4):
                await logged(entries, "watching GPUs for Xid events", number)
                for pid in monitors(process.pid):
                    os.kill(pid, signal.SIGSTOP)
                await logged(entries, "killing a process", number)
            await logged(entries, "cannot kill a process, replacing it", 2)
            stuck = monitors(process.pid)
            assert len(stuck) == 3
            os.kill(stuck[0], signal.SIGKILL)
            await logged(entries, "a process that could not be killed has ended", 1)
            await logged(entries, "watching GPUs for Xid events", 4)
        finally:
            for pid in monitors(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.kill()
            await asyncio.wait_for(process.wait(), PATIENCE)
            await reader

    asyncio.run(story())


async def read(process: asyncio.subprocess.Process, entries: list[Entry]) -> None:
    """Collect the log entries of the process."""
    assert process.stderr is not None
    async for line in process.stderr:
        try:
            entries.append(json.loads(line))
        except ValueError:
            entries.append({"message": line.decode().rstrip()})


async def logged(entries: list[Entry], message: str, times: int) -> None:
    """Wait until *message* was logged exactly so many times."""
    await until(lambda: sum(e["message"] == message for e in entries) == times, message)


def monitors(pid: int) -> list[int]:
    """Return the pids of all running monitors, the oldest first."""
    return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
