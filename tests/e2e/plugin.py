"""The installed command under test, run as an operator runs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.e2e.daemon import Daemon, children, title
from tests.e2e.kubelet import PLUGIN_FOLDER

COMMAND = Path(sys.executable).with_name("gpu-sharing-plugin")


class Plugin:
    """A running `gpu-sharing-plugin run` with a simulated node."""

    def __init__(self, folder: Path, node_file: Path, *flags: str) -> None:
        """Start the plugin for *node_file* with further *flags*; its files go to *folder*."""
        self._runtime_folder = folder / "run"
        command = [
            str(COMMAND),
            "run",
            f"--simulated-node={node_file}",
            f"--device-plugin-path={PLUGIN_FOLDER}",
            f"--runtime-dir={self._runtime_folder}",
            f"--state-dir={folder / 'state'}",
            "--metrics-address=127.0.0.1:0",
            *flags,
        ]
        self._daemon = Daemon(command, folder / "plugin.log")
        self._known: dict[int, str] = {}

    def wait_until(self, probe: Callable[[], object], what: str) -> None:
        """Wait for *probe*; fail at once if the plugin ends, and print its log on any failure."""
        self._daemon.wait_ready(probe, 30, what)

    def stop(self) -> int:
        """Send SIGTERM, kill the plugin if it takes longer than 5 s, and return its exit code."""
        self._known |= self._children()
        return self._daemon.stop(timeout=5)

    def kill(self) -> None:
        """Kill the supervisor with SIGKILL, as the kernel does when memory is short."""
        self._known |= self._children()
        self._daemon.kill()

    def orphans(self) -> dict[int, str]:
        """Return the child processes that still run after the supervisor has ended."""
        return {pid: name for pid, name in self._known.items() if title(pid) == name}

    def clean_up(self) -> None:
        """Stop the plugin and its child processes, and print its log."""
        self.stop()
        for pid in self.orphans():
            os.kill(pid, signal.SIGKILL)
        self._daemon.show_log()

    def move_to(self, cgroup: Path) -> None:
        """Move all its processes to a control group, as systemd and container runtimes do."""
        for pid in (self._daemon.pid, *self._children()):
            (cgroup / "cgroup.procs").write_text(str(pid))

    def worker(self, resource: str) -> int | None:
        """Return the pid of the worker of *resource*, or None if it does not run."""
        worker = f"gpu-sharing-plugin: worker {resource}"
        return next((pid for pid, name in self._children().items() if name == worker), None)

    def kill_worker(self, resource: str) -> int:
        """Kill the worker of *resource* with SIGKILL, and return its pid."""
        pid = self.worker(resource)
        assert pid is not None, f"no worker of {resource} among {self._children()}"
        os.kill(pid, signal.SIGKILL)
        return pid

    def url(self) -> str:
        """Return the address of the metrics."""
        return (self._runtime_folder / "exporter.url").read_text()

    def drill(self, kind: str, *arguments: str) -> None:
        """Inject a fault into the simulated node."""
        command = [str(COMMAND), "drill", kind, *arguments]
        subprocess.run([*command, f"--runtime-dir={self._runtime_folder}"], check=True)

    def _children(self) -> dict[int, str]:
        return children(self._daemon.pid)
