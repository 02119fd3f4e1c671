"""The service trees that `simulate` starts: the plugin, and the one that keeps the MPS daemons."""

import asyncio
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from proto.host import die_with
from simulator.live_node import LIVE_FILE
from simulator.mps.program import NAME, write_program


class Simulation(msgspec.Struct, frozen=True):
    """The command to run, and its folders."""

    program: Sequence[str]
    """How to call gpu-sharing-plugin."""
    options: Sequence[str]
    """The options of the service, without those for folders."""
    folder: Path
    """The runtime folder of the service; also contains the kubelet's plugin folder."""
    mps_root: Path | None
    """The folder of the MPS daemons, which all users can reach; None: MPS shares nothing."""
    duration: float | None
    """Seconds to run; None: until a signal."""

    @property
    def plugins(self) -> Path:
        """The stand-in kubelet's plugin folder."""
        return self.folder / "device-plugins"


class Trees:
    """The processes of a simulation that were started."""

    def __init__(self) -> None:
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, simulation: Simulation) -> None:
        """Start `run`, and `mps` if something is shared by MPS."""
        if simulation.mps_root:
            program = simulation.folder / NAME
            # A tree that is killed leaves its daemons: these end with this process.
            write_program(program, node=str(simulation.folder / LIVE_FILE), owner=os.getpid())
            await self._start([*_mps(simulation)])
        await self._start([*_run(simulation)])

    async def _start(self, command: Sequence[str]) -> None:
        parent = os.getpid()
        started = await asyncio.create_subprocess_exec(
            *command,
            preexec_fn=lambda: die_with(parent),
            start_new_session=True,  # Ctrl-C must reach only this process, which stops the service
        )
        self._processes.append(started)

    async def one_ends(self) -> None:
        """Wait until one of them ends."""
        ends = [asyncio.create_task(process.wait()) for process in self._processes]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()

    async def stop(self) -> int:
        """Stop them; return the exit code of the first that failed or had ended before."""
        codes = [code for p in self._processes if (code := p.returncode) is not None]
        running = [process for process in self._processes if process.returncode is None]
        for process in running:
            process.terminate()
        ends = [await process.wait() for process in running]
        return _first_failure([*codes, *(0 if code == -signal.SIGTERM else code for code in ends)])


def _first_failure(codes: Iterable[int]) -> int:
    return next((code for code in codes if code), 0)


def _run(simulation: Simulation) -> Iterator[str]:
    yield from (*simulation.program, "run", *simulation.options, *_folders(simulation))
    yield f"--state-dir={simulation.folder}/state"


def _mps(simulation: Simulation) -> Iterator[str]:
    yield from (*simulation.program, "mps", *simulation.options, *_folders(simulation))
    yield f"--state-dir={simulation.folder}/mps-state"
    yield f"--mps-control-path={simulation.folder / NAME}"
    yield "--metrics-address=127.0.0.1:0"


def _folders(simulation: Simulation) -> Iterator[str]:
    yield f"--runtime-dir={simulation.folder}"
    yield f"--device-plugin-path={simulation.plugins}"
    yield f"--pod-resources-socket={simulation.folder}/pod-resources.sock"
    if simulation.mps_root:
        yield f"--mps-root={simulation.mps_root}"
