"""Start the plugins that are measured, ours and another, and read their resource use from /proc."""

import array
import contextlib
import json
import os
import queue
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.nvml_library import Steering
from tests.fakes.service import COMMAND, PATIENCE

PAGE = os.sysconf("SC_PAGE_SIZE")
PRESENT, FRAME = 1 << 63, (1 << 55) - 1
"""Bits of an entry in /proc/<pid>/pagemap, see the kernel's admin-guide/mm/pagemap."""

STOPPED_WITHIN = 10

# Another plugin knows only the kubelet's usual folder: mount a private one there.
REDIRECT = (
    "mount -t tmpfs none /var/lib && mkdir -p /var/lib/kubelet/device-plugins && "
    'mount --bind "$0" /var/lib/kubelet/device-plugins && exec "$@"'
)


class MeasureError(Exception):
    """A plugin cannot be measured, because it sends no list."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """How to start a plugin."""

    command: tuple[str, ...] = (*COMMAND, "run")
    library: Path | None = None
    """The folder of the stand-in for NVML."""
    ours: bool = True

    def start(self, folder: Path, options: tuple[str, ...], settings: Mapping[str, str]) -> "Tree":
        """Start the plugin in *folder*; another plugin gets only *settings*."""
        environment = {**os.environ, **settings, "STANDIN_NVML_DIR": str(folder)}
        if self.library:
            environment["LD_LIBRARY_PATH"] = str(self.library)
        command = [*self.command, *options]
        if self.ours:
            environment |= {
                "DEVICE_PLUGIN_PATH": f"{folder}/kubelet",
                "GPU_SHARING_RUNTIME_DIR": str(folder),
                "GPU_SHARING_STATE_DIR": f"{folder}/state",
                "METRICS_ADDRESS": "127.0.0.1:0",
                "POD_RESOURCES_SOCKET": f"{folder}/kubelet.pods",
            }
        else:
            command = ["unshare", "--mount", "sh", "-c", REDIRECT, f"{folder}/kubelet", *command]
        begun = time.perf_counter()
        with (folder / "plugin.log").open("w") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        return Tree(folder, process, begun)


def other(command: str, library: Path) -> Plugin:
    """Return another plugin, which *command* starts."""
    return Plugin(tuple(shlex.split(command)), library, ours=False)


@dataclass(frozen=True, slots=True)
class Tree:
    """A running plugin with its child processes."""

    folder: Path
    process: subprocess.Popen[bytes]
    begun: float

    def xid(self, gpu: int, code: int) -> None:
        """Report an Xid on a GPU of the stand-in for NVML."""
        Steering(self.folder).xid(gpu, code)

    def children(self) -> dict[str, int]:
        """Return the pids of our plugin's child processes by name."""
        found = {}
        for pid in _children(self.process.pid):
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0 ")
                found[title.removeprefix("gpu-sharing-plugin: ")] = pid
        return found

    def _pids(self) -> list[int]:
        return [self.process.pid, *_children(self.process.pid)]

    def memory(self) -> float:
        """Return the memory of all processes in MiB, each physical page counted once (needs root).

        This is the sum of their PSS on a machine where no other process maps the same files.
        """
        return len(set().union(*map(_frames, self._pids()))) * PAGE / 2**20

    def processor_time(self) -> float:
        """Return the CPU time of all threads in seconds."""
        runs = (
            int((task / "schedstat").read_text().split()[0])
            for pid in self._pids()
            for task in Path(f"/proc/{pid}/task").iterdir()
        )
        return sum(runs) / 1e9

    def own(self, name: str) -> float:
        """Return the memory in MiB that only this child process has."""
        text = Path(f"/proc/{self.children()[name]}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if "Private_" in line) / 1024

    def stop(self) -> None:
        """Stop the plugin and its child processes."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def _frames(pid: int) -> set[int]:
    """Return the numbers of the physical pages that a process has mapped."""
    frames: set[int] = set()
    with Path(f"/proc/{pid}/pagemap").open("rb") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(address, 16) for address in line.split()[0].split("-"))
            entries = array.array("Q")
            # The kernel's own pages, at the end of the list, cannot be read.
            with contextlib.suppress(OSError, OverflowError):
                pagemap.seek(start // PAGE * 8)
                entries.frombytes(pagemap.read((end - start) // PAGE * 8))
            frames.update(entry & FRAME for entry in entries if entry & PRESENT)
    return frames - {0}


@contextlib.contextmanager
def running(
    plugin: Plugin,
    folder: Path,
    *options: str,
    replicas: int = 1,
    node: object = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Tree]:
    """Run a plugin with so many replicas per GPU, on the NVML stand-in or a simulated *node*."""
    settings = {"STANDIN_NVML_GPUS": "8", **(settings or {})}
    if replicas > 1:
        shared = {"resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}
        config = {"version": "v1", "sharing": {"timeSlicing": shared}}
        (folder / "config.json").write_text(json.dumps(config))
        settings["CONFIG_FILE"] = f"{folder}/config.json"
    if node is not None:
        (folder / "node.json").write_text(json.dumps(node))
        options = (*options, f"--simulated-node={folder}/node.json")
    tree = plugin.start(folder, options, settings)
    try:
        yield tree
    except queue.Empty as error:
        log = (folder / "plugin.log").read_text()
        raise MeasureError(f"cannot measure: the plugin sent no list; its log:\n{log}") from error
    finally:
        tree.stop()
