"""The health monitor as a process of its own, without a supervisor."""

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import zmq

from proto.channel import Channel
from proto.control import Beat, Order, Report
from proto.messages import NodeState, decode, topic
from proto.monitor import MonitorSettings
from tests.fakes.service import PATIENCE

SCRIPT = """
import socket, sys, msgspec
from health.main import main
from proto.channel import Channel
from proto.monitor import MonitorSettings
channel = Channel(socket.socket(fileno=int(sys.argv[2])))
sys.exit(main(msgspec.json.decode(sys.argv[1], type=MonitorSettings), channel, 1))
"""


@dataclass(frozen=True)
class Monitor:
    """A running monitor."""

    process: "subprocess.Popen[bytes]"
    channel: Channel
    states: "zmq.Socket[bytes]"

    def threads(self) -> int:
        """Return the number of its threads."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def resident(self) -> int:
        """Return its resident memory in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def report(self) -> Order | Report | None:
        """Return the next report that is not a heartbeat."""
        report: Order | Report | None = Beat()
        while isinstance(report, Beat):
            assert select.select([self.channel.fileno()], [], [], PATIENCE)[0]
            report = self.channel.receive()
        return report

    def state(self) -> NodeState:
        """Return the next state that it publishes."""
        assert self.states.poll(int(PATIENCE * 1000))
        state = decode(self.states.recv())
        assert isinstance(state, NodeState)
        return state


@contextlib.contextmanager
def monitor(settings: MonitorSettings, environment: Mapping[str, str]) -> Iterator[Monitor]:
    """Run a monitor; kill it at the end."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, msgspec.json.encode(settings), str(its.fileno())],
            env={**os.environ, **environment},
            pass_fds=[its.fileno()],
        )
    channel = Channel(ours)
    with zmq.Context() as context, context.socket(zmq.SUB) as states:
        states.linger = 0
        states.subscribe(topic(NodeState))
        states.connect(f"ipc://{settings.paths.health_bus}")
        try:
            yield Monitor(process, channel, states)
        finally:
            process.kill()
            process.wait(PATIENCE)
            channel.close()
