"""A host with a stand-in for nvidia-cuda-mps-control: its installation, faults and clients.

The program is `simulator/mps`, but for its shell (`mps/shell.c` beside this file): real daemons,
sockets and servers, without a GPU. It answers as version 580.159.04 did on an H100;
`tests/hardware/mps-580.159.04.txt` is the comparison.
"""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from simulator.mps.program import NAME, write_program
from tests.conftest import children
from tests.fakes.compiler import build
from tests.hardware.programs import PATIENCE, Program
from tests.hardware.transcript import alive, until

_folder = tempfile.TemporaryDirectory(prefix="gs-")
"""Removed when this process ends."""

CLIENT = (sys.executable, "-ES", "-m", "tests.fakes.mps.client")


@functools.cache
def _shell() -> Path:
    """Compile the program that is run for each command, once in each process that runs tests."""
    program = Path(_folder.name) / NAME
    build(program, Path(__file__).parent / "mps/shell.c")
    return program


class MpsHost:
    """A host with the stand-in in *folder*/bin.

    Its GPUs are those of the live simulated node in the file *node*, or else *gpus*, or else those
    that a daemon's CUDA_VISIBLE_DEVICES names.
    """

    def __init__(self, folder: Path, node: Path | None = None, gpus: Iterable[str] = ()) -> None:
        self.folder = folder / "mps-standin"
        self.folder.mkdir()
        self._daemon = self.folder / NAME
        write_program(self._daemon, str(self.folder), str(node or ""), ",".join(gpus))
        self.program = folder / "bin" / NAME
        self.program.parent.mkdir(exist_ok=True)
        shutil.copy(_shell(), self.program)
        named = f"import sys\nsys.argv[0] = {str(self.program)!r}\n"  # for the daemon's title
        self._daemon.write_text(self._daemon.read_text().replace("import sys\n", named, 1))

    def order(self, gpu: str = "all", **faults: object) -> None:
        """Replace the faults of the daemons of all GPUs, or of the daemon of one.

        - status="FAULT" or "INITIALIZING": what get_server_status answers; clients get error 807,
          or wait.
        - commands={"ps": order}, or "*" for the others: {"after": seconds}, {"never": True},
          {"exit": 1}, {"says": "50.0"}.
        - ignored=["set_default_active_thread_percentage"]: limits that are accepted and not kept.
        - start="fails", "hangs" or seconds: how the daemon starts.
        - server="fails", "hangs" or seconds: how its servers start; while a server that a command
          asked for starts, the daemon answers nothing.
        """
        new = self.folder / f"{gpu}.new"
        new.write_text(json.dumps(faults))
        new.rename(self.folder / f"{gpu}.json")

    def crash(self, times: int, gpu: str = "all", *, server: bool = False) -> None:
        """Let the next daemons exit with 1 when they start, or the next servers."""
        what = "server-crashes" if server else "crashes"
        (self.folder / f"{gpu}.{what}").write_text(str(times))

    def commands(self, gpu: str = "") -> list[str]:
        """Return the commands that daemons have answered, or that the one of a GPU has."""
        return [entry["command"] for entry in self._noted("commands") if gpu in ("", entry["gpu"])]

    def programs(self) -> list[dict[str, Any]]:
        """Return the daemons that were started: pid, gpu, options, umask, CUDA's environment."""
        return self._noted("programs")

    def _noted(self, name: str) -> list[dict[str, Any]]:
        try:
            lines = (self.folder / name).read_text().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    @contextlib.contextmanager
    def daemon(
        self, pipe: Path, gpu: str = "", *options: str, ready: bool = True
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a daemon with `-f`, and kill it at the end; its log is in *pipe*.log.

        Without *ready*, do not wait until it listens.
        """
        environment = {**cuda(pipe), **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}
        command = [str(self.program), "-f", *(options or ("-multiuser-server",))]
        with Path(f"{pipe}.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log)
        try:
            if ready:
                listens = partial(_listens, pipe, process.pid)
                assert until(listens, PATIENCE), f"no daemon in {pipe}"
            yield process
        finally:
            process.kill()
            process.wait()

    def shell(self, pipe: Path, command: str) -> Program:
        """Send a line to the daemon of a pipe folder, and do not wait for the answer."""
        shell = Program([str(self.program)], cuda(pipe))
        shell.tell(command)
        return shell

    def ask(self, pipe: Path, command: str) -> tuple[int, str]:
        """Send a line to the daemon of a pipe folder; return the exit code and the answer."""
        done = subprocess.run(
            [self.program],
            env=cuda(pipe),
            input=f"{command}\n",
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.returncode, done.stdout

    def end_all(self) -> None:
        """End all daemons; then their servers end, and the commands of a killed keeper."""
        daemons = [program["pid"] for program in self.programs()]
        servers = {pid for daemon in daemons for pid in children(daemon)}
        for pid in daemons:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert until(lambda: not self._left(), PATIENCE), f"left: {self._left()}"
        assert until(lambda: not any(map(alive, servers)), PATIENCE), f"left: {servers}"

    def _left(self) -> list[str]:
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with contextlib.suppress(OSError):  # it has ended
                    found.append((folder / "cmdline").read_text(errors="replace"))
        programs = (str(self.program), str(self._daemon))
        return [line for line in found if any(program in line for program in programs)]

    def servers(self, pipe: Path) -> list[int]:
        """Return the PIDs of a daemon's servers."""
        return [int(pid) for pid in self.ask(pipe, "get_server_list")[1].split()]

    def client(self, pipe: Path, *options: str) -> Program:
        """Start a program that uses the GPU of a pipe folder; see `tests/fakes/mps/client.py`."""
        return Program([*CLIENT, *options], cuda(pipe))


def _listens(pipe: Path, pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return (pipe / f"{NAME}.pid").read_text() == str(pid)
    return False


def cuda(pipe: Path) -> dict[str, str]:
    """Return the environment of a program that uses the daemon of a pipe folder."""
    return {
        "PATH": os.environ["PATH"],
        "CUDA_MPS_PIPE_DIRECTORY": str(pipe),
        "CUDA_MPS_LOG_DIRECTORY": f"{pipe}-logs",
    }
