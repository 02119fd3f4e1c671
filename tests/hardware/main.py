"""Run the service on this machine's real GPUs and driver, and check what it promises.

A kubelet that only records plays the node. Needs root and idle GPUs; it changes no setting of a
GPU. It causes one Xid 31, which ends only its own program.
"""

import contextlib
import datetime as dt
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from proto.messages import UsageState, decode, topic
from tests.bench.calls import GPU, Calls, milliseconds, rest
from tests.bench.kubelet import Kubelet, kubelet
from tests.bench.plugin import Plugin, Tree, running
from tests.fakes.service import COMMAND, PATIENCE, short_folder

CUDA = (sys.executable, "-m", "tests.hardware.cuda")
MEMORY = 4096
"""MiB that the program uses."""

OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private")


@dataclass
class Bench:
    """The running service on the GPUs of this machine."""

    node: Kubelet
    tree: Tree
    ids: list[str]
    failed: list[str] = field(default_factory=list)

    def tell(self, what: str, saw: str, *, good: bool = True) -> None:
        """Print what was seen."""
        print(f"| {what} | {saw} | {'yes' if good else 'NO'} |", flush=True)  # noqa: T201
        if not good:
            self.failed.append(what)

    def url(self, path: str) -> str:
        """Return what the service answers to a GET of *path*."""
        base = (self.tree.folder / "exporter.url").read_text().strip().removesuffix("/metrics")
        with urllib.request.urlopen(base + path, timeout=PATIENCE) as answer:  # noqa: S310 - http
            return str(answer.read().decode())

    def sample(self, name: str) -> float:
        """Return the sum of a metric's samples."""
        lines = self.url("/metrics").splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    def logged(self, message: str, since: int = 0) -> list[dict[str, Any]]:
        """Return the log's entries with *message* after its first *since* entries."""
        lines = (self.tree.folder / "plugin.log").read_text().splitlines()[since:]
        return [entry for entry in map(json.loads, lines) if entry["message"] == message]

    def until(self, met: Callable[[], bool]) -> bool:
        """Wait until *met*; return whether it came to that."""
        end = time.monotonic() + PATIENCE
        while not (good := met()) and time.monotonic() < end:
            rest(0.05)
        return good


def cuda(*arguments: str) -> subprocess.Popen[str]:
    """Start the CUDA program."""
    return subprocess.Popen([*CUDA, *arguments], stdout=subprocess.PIPE, text=True)


def lists(bench: Bench) -> None:
    """Allocate, then measure what the service costs at rest."""
    channel, stub = bench.node.stub(GPU)
    with channel:
        calls = Calls(stub, bench.ids[:1])
        took = sorted(milliseconds(lambda: calls.allocate(calls.ids)) for _ in range(500))
    bench.tell("Allocate", f"median {took[250]:.2f} ms, p99 {took[495]:.2f} ms")
    rest(3)
    begun, before = time.monotonic(), bench.tree.processor_time()
    rest(20)
    share = (bench.tree.processor_time() - before) / (time.monotonic() - begun)
    memory = bench.tree.memory()
    bench.tell("at rest", f"{share:.2%} of a core, {memory:.0f} MiB in all processes")


def busy(bench: Bench) -> None:
    """Look at GPUs that work."""
    program = cuda("--seconds", "20", "--memory", str(MEMORY))
    assert program.stdout is not None
    program.stdout.readline()
    begun, before, durations = time.monotonic(), bench.tree.processor_time(), []
    for _ in range(10):
        rest(1)
        durations.append(bench.sample("gpu_sharing_look_duration_seconds") * 1e3)
    share = (bench.tree.processor_time() - before) / (time.monotonic() - begun)
    used(bench, program.pid)
    program.wait(PATIENCE)
    looks = f"look median {statistics.median(durations):.1f} ms, worst {max(durations):.1f} ms"
    bench.tell("a GPU is busy", f"{looks}; {share:.2%} of a core with a scrape a second")


def used(bench: Bench, pid: int) -> None:
    """Look at the usage that the monitor publishes while the program runs."""
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.subscribe(topic(UsageState))
        socket.connect(f"ipc://{bench.tree.folder}/health.ipc")
        state = decode(socket.recv()) if socket.poll(int(PATIENCE * 1000)) else None
    devices = state.devices if isinstance(state, UsageState) else ()
    seen = [process for device in devices for process in device.processes or ()]
    good = any(
        process.pid == pid and (process.memory or 0) >= MEMORY << 20 and process.utilization
        for process in seen
    )
    figures = [
        f"{name} {getattr(device, name)}"
        for device in devices[:1]
        for name in device.__struct_fields__
        if name not in {"uuid", "taken", "processes"}
    ]
    bench.tell("usage of a busy GPU", f"{', '.join(figures)}; {seen}", good=good)


def xid(bench: Bench) -> None:
    """Cause an Xid that is not fatal."""
    name = "the driver reported an Xid that is not fatal"
    since = len((bench.tree.folder / "plugin.log").read_text().splitlines())
    good = cuda("--fault").wait(PATIENCE) == 0
    ended = time.time()
    good &= bench.until(lambda: bool(bench.logged(name, since)))
    seen = bench.logged(name, since)
    counted = bench.until(lambda: bench.sample("gpu_sharing_xid_errors_total") >= 1)
    healthy = not bench.node.newest[GPU].unhealthy()
    at = f"{(_unix(seen[0]) - ended) * 1e3:+.0f} ms after the program" if seen else "not"
    bench.tell(
        "Xid of a program",
        f"Xid {[entry['xid'] for entry in seen]} logged {at}; Healthy: {healthy}",
        good=good and healthy and counted,
    )


def crash(bench: Bench) -> None:
    """Kill the monitor: a new one watches, and no device becomes Unhealthy."""
    before = bench.node.newest[GPU]
    since = len((bench.tree.folder / "plugin.log").read_text().splitlines())
    killed = time.time()
    os.kill(bench.tree.children()["monitor"], signal.SIGKILL)
    name = "watching GPUs for Xid events"
    good = bench.until(lambda: bool(bench.logged(name, since)))
    took = (_unix(bench.logged(name, since)[0]) - killed) * 1e3 if good else 0
    rest(2)
    quiet = bench.node.newest[GPU] is before or not bench.node.newest[GPU].unhealthy()
    bench.tell("the monitor is killed", f"watched again after {took:.0f} ms", good=good and quiet)


def access(bench: Bench) -> None:
    """Take the device nodes away from the service, kill the monitor, and give them back."""
    nodes = [str(path) for path in Path("/dev").glob("nvidia[0-9]*")] + ["/dev/nvidiactl"]
    inside = ["nsenter", "--target", str(bench.tree.process.pid), "--mount"]
    for path in nodes:
        subprocess.run([*inside, "mount", "--bind", "/dev/null", path], check=True)
    begun = time.monotonic()
    os.kill(bench.tree.children()["monitor"], signal.SIGKILL)
    gone = bench.until(lambda: bench.node.newest[GPU].unhealthy() == len(bench.ids))
    lost = time.monotonic() - begun
    why = bench.url("/status")
    for path in nodes:
        subprocess.run([*inside, "umount", path], check=True)
    begun = time.monotonic()
    back = bench.until(lambda: not bench.node.newest[GPU].unhealthy())
    bench.tell(
        "the device nodes are gone",
        f"all Unhealthy after {lost:.1f} s, Healthy {time.monotonic() - begun:.1f} s after they "
        "are back",
        good=gone and back and "no-access" in why,
    )


def stop(bench: Bench) -> None:
    """Stop the service."""
    begun = time.monotonic()
    bench.tree.process.send_signal(signal.SIGTERM)
    code = bench.tree.process.wait(PATIENCE)
    took = (time.monotonic() - begun) * 1e3
    bench.tell("SIGTERM", f"exit {code} after {took:.0f} ms", good=not code)


def _unix(entry: dict[str, Any]) -> float:
    return dt.datetime.fromisoformat(entry["time"]).timestamp()


@contextlib.contextmanager
def on_this_machine() -> Iterator[Bench]:
    """Run the service with the driver of this machine."""
    plugin = Plugin((*OWN_MOUNTS, *COMMAND, "run"))
    options = ("--log-format=json",)
    with short_folder() as folder, kubelet(folder) as node:
        with running(plugin, folder, *options) as tree:
            first = node.next_list()
            while not first.ids():
                first = node.next_list()
            bench = Bench(node, tree, first.ids())
            took = (first.at - tree.begun) * 1e3
            bench.tell(
                "start",
                f"{len(first.ids())} GPU(s) listed after {took:.0f} ms",
                good=not first.unhealthy(),
            )
            yield bench
        if log := os.environ.get("HARDWARE_LOG"):
            Path(log).write_text((folder / "plugin.log").read_text())


def main() -> int:
    """Run all checks and print them as a Markdown table."""
    print("| what | seen | as promised |\n|---|---|---|", flush=True)  # noqa: T201
    with on_this_machine() as bench:
        for check in (lists, busy, xid, crash, access, stop):
            check(bench)
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
