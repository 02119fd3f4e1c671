"""A keeper of an MPS daemon as a process of its own, without a supervisor."""

import contextlib
import ctypes
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zmq

from proto.channel import Channel, ClosedError
from proto.control import Order, ServiceState
from proto.keeper import KeeperSettings
from proto.messages import MpsState, decode
from proto.mps import MpsDaemon, MpsShare, Phase, pipe_folder
from simulator.live_node import LiveNode
from simulator.node_file import default_node
from tests.fakes import forked
from tests.fakes.mps_host import MpsHost
from tests.fakes.service import PATIENCE

NODE = default_node()
FIRST, SECOND = (gpu.uuid for gpu in NODE.gpus[:2])
SHARE = MpsShare(memory_mib=20000, threads=25)

MNT_DETACH = 2
"""Of sys/mount.h."""

SCRIPT = """
import os, socket, sys, msgspec
from proto.channel import Channel
from proto.host import die_with
from proto.keeper import KeeperSettings
from supervisor import logs, privileges
from supervisor.mps.keeper import main
die_with(int(sys.argv[2]))
privileges.keep(privileges.DRIVER)
logs.set_up("mps", logs.Format.JSON, logs.Level.DEBUG)
channel = Channel(socket.socket(fileno=3))
os._exit(main(msgspec.json.decode(sys.argv[1], type=KeeperSettings), channel, 1))
"""


@dataclass
class Keeper:
    """A running keeper, and what it has published."""

    process: forked.Script
    channel: Channel
    states: "zmq.Socket[bytes]"
    log: Path
    uuid: str

    def until(self, met: Callable[[MpsDaemon], object]) -> MpsDaemon:
        """Return the first state from now on that *met* is true of."""
        end = time.monotonic() + PATIENCE
        last: MpsDaemon | None = None
        while self.states.poll(max(0, int((end - time.monotonic()) * 1000))):
            state = decode(self.states.recv())
            assert isinstance(state, MpsState)
            (last,) = state.daemons
            if last.uuid == self.uuid and met(last):
                return last
        raise AssertionError(f"it does not come; last state: {last}; log:\n{self.log.read_text()}")

    def phase(self, phase: Phase, detail: str = "") -> MpsDaemon:
        """Return the first state from now on in this phase, with this text in its detail."""
        return self.until(lambda daemon: daemon.phase is phase and detail in daemon.detail)

    def ready(self) -> MpsDaemon:
        """Return the first state from now on that is ready, with a server."""
        return self.until(lambda daemon: daemon.ready and daemon.server and daemon.status)

    def order(self, order: Order) -> None:
        """Send an order."""
        self.channel.send(order)

    def beats(self) -> None:
        """Wait for two heartbeats from now on."""
        with contextlib.suppress(ClosedError):
            while self.channel.receive():
                pass
            for _ in range(2):
                assert select.select([self.channel.fileno()], [], [], PATIENCE)[0]
                self.channel.receive()

    def kill(self) -> None:
        """Kill the keeper."""
        self.process.end()

    def logged(self, message: str) -> list[dict[str, Any]]:
        """Return the log entries with this message."""
        entries = [msgspec.json.decode(line) for line in self.log.read_text().splitlines()]
        return [entry for entry in entries if entry["message"] == message]


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


class Node:
    """A node with the stand-in for MPS, and the settings of keepers on it."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        self.folder = folder
        self.live = LiveNode(folder)
        self.live.start(NODE)
        self.mps = MpsHost(folder, self.live.path)
        self.root = folder / "mps"
        self.state = folder / "state"
        self._buses = 0

    def settings(self, uuid: str = FIRST, share: MpsShare = SHARE, **more: Any) -> KeeperSettings:
        """Return the settings of a keeper that looks often."""
        self._buses += 1
        return msgspec.structs.replace(
            KeeperSettings(
                uuid=uuid,
                share=share,
                root=str(self.root),
                state_folder=str(self.state),
                bus=str(self.folder / f"keepers-{self._buses}.ipc"),
                program=str(self.mps.program),
                binding="simulator.nvml",
                binding_argument=str(self.folder),
                poll_interval=0.2,
            ),
            **more,
        )

    def pipe(self, uuid: str = FIRST) -> Path:
        """Return the pipe folder of a device."""
        return Path(pipe_folder(str(self.root), uuid))

    def mode(self, uuid: str = FIRST) -> int:
        """Return the compute mode of a GPU."""
        return self.live.read().modes.get(uuid, 0)

    @contextlib.contextmanager
    def keeper(self, settings: KeeperSettings | None = None) -> Iterator[Keeper]:
        """Run a keeper; kill it at the end. The daemon stays; `clean` ends it."""
        given = settings or self.settings()
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log = self.folder / f"log-{self._buses}"
        with zmq.Context() as context, context.socket(zmq.SUB) as states, log.open("ab") as errors:
            states.linger = 0
            states.subscribe(b"")
            states.bind(f"ipc://{given.bus}")
            with its, _umask(0o077):  # as in the service
                process = forked.script(
                    SCRIPT,
                    [msgspec.json.encode(given).decode(), str(os.getpid())],
                    os.environ,
                    1,
                    errors.fileno(),
                    its.fileno(),
                )
            channel = Channel(ours)
            channel.send(ServiceState(processes=(), planned=None))
            try:
                yield Keeper(process, channel, states, log, given.uuid)
            finally:
                process.end()
                channel.close()

    def clean(self) -> None:
        """End all daemons, and unmount what keepers mounted."""
        self.mps.end_all()
        ctypes.CDLL(None).umount2(bytes(self.root / "shm"), MNT_DETACH)
