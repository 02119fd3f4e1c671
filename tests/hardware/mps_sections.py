"""What the check of MPS asks, section by section; each has a daemon of its own."""

import contextlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.hardware.mps_daemon import Daemon
from tests.hardware.nvml_processes import Gpu
from tests.hardware.programs import PATIENCE
from tests.hardware.transcript import Transcript, until

DEFAULTS = """
get_server_list
get_default_active_thread_percentage
get_default_device_pinned_mem_limit 0
get_default_device_pinned_mem_limit {uuid}
set_default_active_thread_percentage 25
get_default_active_thread_percentage
set_default_active_thread_percentage 250
set_default_active_thread_percentage 0
set_default_active_thread_percentage -5
set_default_active_thread_percentage some
set_default_active_thread_percentage 33.3
set_default_active_thread_percentage 33.333
set_default_active_thread_percentage 0.04
set_default_active_thread_percentage 34
set_default_active_thread_percentage
set_default_device_pinned_mem_limit {uuid} 4096M
get_default_device_pinned_mem_limit {uuid}
get_default_device_pinned_mem_limit 0
set_default_device_pinned_mem_limit {uuid} 1500M
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit {uuid} 1536M
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit {uuid} 81559M
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit {uuid} 1025M
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit {uuid} 1M
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit {uuid} 0M
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit {uuid} 1.5G
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit {uuid} 2048
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit {uuid} 2g
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit 0 3G
get_default_device_pinned_mem_limit 0
get_default_device_pinned_mem_limit {uuid}
set_default_device_pinned_mem_limit 7 1G
get_default_device_pinned_mem_limit 7
set_default_device_pinned_mem_limit GPU-nope 1G
get_default_device_pinned_mem_limit GPU-nope
set_default_device_pinned_mem_limit GPU-11111111-2222-3333-4444-555555555555 1G
get_default_device_pinned_mem_limit GPU-11111111-2222-3333-4444-555555555555
get_default_client_priority
set_default_client_priority 1
nonsense
nonsense with words

help
lspart
get_server_status 99999
get_server_status
get_client_list 99999
shutdown_server 99999
terminate_client 99999 1
ps
get_device_client_list
device_query
"""

SERVER = """
get_server_status {server}
ps
get_client_list {server}
get_device_client_list
device_query
device_query --csv
device_query {server}
get_device_pinned_mem_limit {server} {uuid}
get_device_pinned_mem_limit {server} 0
get_active_thread_percentage {server}
"""

CLIENT = """
ps
ps -p {server}
get_client_list {server}
get_device_client_list
get_device_client_list {server}
device_query
"""

BIG = ("--memory", "6144")
"""More than the limit of 4 GiB."""


@dataclass
class Check:
    """What a section has at hand."""

    out: Transcript
    control: str
    client: list[str]
    uuid: str
    folder: Path
    gpu: Gpu | None

    @contextlib.contextmanager
    def daemon(self, *options: str, extra: str = "", uuid: str = "") -> Iterator[Daemon]:
        """Run a daemon for the GPU in the foreground."""
        os.environ["CUDA_VISIBLE_DEVICES"] = uuid or self.uuid
        command = [self.control, "-f", *options]
        try:
            daemon = Daemon(self.out, command, self.folder, extra)
        finally:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        daemon.environment.pop("CUDA_VISIBLE_DEVICES", None)
        try:
            yield daemon
        finally:
            daemon.close()

    def run(self, what: str, option: str, environment: Mapping[str, str]) -> None:
        """Run the program itself; write down its end and its output."""
        paths = [self.folder / "stdout", self.folder / "stderr"]
        with paths[0].open("w") as out, paths[1].open("w") as err:  # a daemon may keep them open
            done = subprocess.Popen(
                [self.control, *([option] if option else [])],
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            )
            done.communicate(f"{what}\n".encode(), PATIENCE)
        self.out.say(f"{what}: {done.returncode}")
        for mark, path in zip("|!", paths, strict=True):
            if text := path.read_text():
                self.out.say(f"{mark} {text!r}")

    def ask(self, daemon: Daemon, commands: str, server: int = 0) -> None:
        """Send each line in a shell of its own."""
        for line in commands.strip("\n").split("\n"):
            daemon.ask(line.format(uuid=self.uuid, server=server) + "\n")


Section = Callable[[Check], None]


def nobody(check: Check) -> None:
    """Ask without a daemon; then start one, and look at its files."""
    environment = {**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(check.folder / "pipe")}
    check.run("get_server_list", "", environment)
    check.run("-v", "-v", environment)
    with check.daemon("-multiuser-server") as daemon:
        until(lambda: len(daemon.log()) >= 3, check.out.patience)
        for path in sorted(daemon.pipe.iterdir()):
            check.out.say(f"{stat.filemode(path.stat().st_mode)} {path.name}")
        pid = (daemon.pipe / "nvidia-cuda-mps-control.pid").read_text()
        check.out.say(f"pid file: {pid.replace(str(daemon.process.pid), 'DAEMON')!r}")
        _process(check, daemon.process.pid, "DAEMON")
        daemon.ask("get_server_list\n")
        check.out.say(f"log folder: {sorted(path.name for path in daemon.logs.iterdir())}")
        for kind, pid, text in daemon.log():
            check.out.quote(f"@ {pid} {kind}: {text}")
        daemon.ask("get_default_active_thread_percentage\nget_server_list\n")
        daemon.ask("")


def defaults(check: Check) -> None:
    """Change settings before there is a server."""
    with check.daemon("-multiuser-server") as daemon:
        check.ask(daemon, DEFAULTS)
        daemon.ask("quit\n")
        daemon.ended()
        check.out.say(f"log folder: {sorted(path.name for path in daemon.logs.iterdir())}")


def server(check: Check) -> None:
    """Start a server without clients."""
    with check.daemon("-multiuser-server") as daemon:
        daemon.ask("set_default_active_thread_percentage 25\n")
        daemon.ask(f"set_default_device_pinned_mem_limit {check.uuid} 4096M\n")
        pid = daemon.server("-uid 0")
        daemon.status(pid, "ACTIVE")
        daemon.rest()
        _process(check, pid, "SERVER1")
        check.ask(daemon, SERVER, pid)
        for again in ("-uid 0", "-uid 1000", "-uid", "0"):
            daemon.ask(f"start_server {again}\n")
            daemon.ask("get_server_list\n")
        daemon.rest()
        daemon.ask("set_default_active_thread_percentage 50\n")
        daemon.ask(f"get_active_thread_percentage {pid}\n")
        daemon.ask(f"shutdown_server {pid}\n")
        daemon.gone()
        daemon.ask(f"set_default_device_pinned_mem_limit {check.uuid} 1500M\n")
        daemon.ask("set_default_device_pinned_mem_limit 0 5G\n")
        pid = daemon.server("-uid 0")
        daemon.rest()
        daemon.ask(f"get_device_pinned_mem_limit {pid} {check.uuid}\n")
        daemon.ask("quit\n")
        daemon.ended()


def client(check: Check) -> None:
    """Start a client, look at its limits, and change them beside it."""
    with check.daemon("-multiuser-server") as daemon:
        daemon.ask("set_default_active_thread_percentage 25\n")
        daemon.ask("set_default_device_pinned_mem_limit 0 2G\n")
        daemon.ask(f"set_default_device_pinned_mem_limit {check.uuid} 4096M\n")
        first = daemon.client(check.client, "--stay")
        pid = int((daemon.ask("get_server_list\n", quiet=True) or "0").split()[0])
        check.out.server(pid)
        daemon.rest()
        check.ask(daemon, CLIENT, pid)
        daemon.ask(f"get_device_pinned_mem_limit {pid} {check.uuid}\n")
        _nvml(check)
        daemon.client(check.client, "--memory", "3000").end()
        daemon.client(check.client, *BIG).end()
        for device, limit, memory in (
            ("0", "1G", "3000"),
            (check.uuid, "1G", "3000"),
            ("0", "20G", "6144"),
            ("7", "1G", "6144"),
        ):
            extra = {"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": f"{device}={limit}"}
            check.out.say(f"CUDA_MPS_PINNED_DEVICE_MEM_LIMIT={device}={limit}")
            daemon.client(check.client, "--memory", memory, extra=extra).end()
        for value in ("10", "50"):
            check.out.say(f"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE={value}")
            daemon.client(check.client, extra={"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": value}).end()
        daemon.ask(f"set_active_thread_percentage {pid} 10\n")
        daemon.ask(f"set_device_pinned_mem_limit {pid} {check.uuid} 7G\n")
        daemon.ask(f"get_device_pinned_mem_limit {pid} {check.uuid}\n")
        daemon.client(check.client, *BIG).end()
        daemon.rest()
        daemon.ask(f"terminate_client {pid} 99999\n")
        daemon.ask(f"terminate_client {pid} {first.process.pid}\n")
        daemon.tell(first)
        daemon.status(pid, "ACTIVE")
        daemon.ask(f"get_client_list {pid}\n")
        daemon.rest()


def _process(check: Check, pid: int, name: str) -> None:
    """Write down what /proc says about a process."""
    folder = Path(f"/proc/{pid}")
    line = (folder / "cmdline").read_text().rstrip("\0").replace("\0", " ")
    check.out.say(f"{name} cmdline: {line.replace(check.control, 'CONTROL')}")
    check.out.say(f"{name} comm: {(folder / 'comm').read_text().strip()}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    check.out.quote(f"{name} parent: {fields[1].replace(str(os.getpid()), 'SCRIPT')}")


def _nvml(check: Check) -> None:
    if check.gpu is None:
        return
    for kind in ("Compute", "MPSCompute"):
        found = sorted(check.gpu.processes(kind))
        text = ", ".join(f"{pid} {memory >> 20} MiB" for pid, memory in found)
        check.out.quote(f"hw nvmlDeviceGet{kind}RunningProcesses: {text}")
