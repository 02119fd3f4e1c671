"""Both service trees on a simulated node with the stand-in for MPS, as users start them."""

import asyncio
import contextlib
import ctypes
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import zmq

from proto import bus
from proto import deviceplugin_pb2 as api
from proto.inbox import Inbox
from proto.messages import MpsState
from proto.mps import MpsDaemon, Phase, pipe_folder
from simulator.kubelet import Kubelet
from simulator.live_node import LiveNode
from tests.fakes import commands
from tests.fakes.keeper import MNT_DETACH
from tests.fakes.mps_host import MpsHost
from tests.fakes.service import PATIENCE, Service, service, short_folder
from tests.hardware.transcript import alive

GPU = "nvidia.com/gpu"
REPLICAS = 4
FILES = ("config.json", "mps.json")
"""The same configuration for `run` and `mps`: so a test can see which of them reads it."""

UUIDS = tuple(f"GPU-00000000-0000-0000-0000-{place:012}" for place in range(8))

MPS = {"mps": {"resources": [{"name": GPU, "replicas": REPLICAS}]}}
SLICES = {"timeSlicing": {"resources": [{"name": GPU, "replicas": REPLICAS}]}}


class Host:
    """A node's folders, its configuration, and the stand-in for MPS.

    With *mig*, one more GPU has these MIG instances, which are not shared.
    """

    def __init__(self, folder: Path, root: Path, gpus: int, mig: Sequence[str] = ()) -> None:
        self.folder = folder
        self.root = root
        self.uuids = UUIDS[:gpus]
        more: list[dict[str, object]] = [{"mig": list(mig)}] if mig else []
        self.flags = {"migStrategy": "mixed"} if mig else {}
        self.node = {"gpus": [*({"uuid": uuid} for uuid in self.uuids), *more]}
        (folder / "node.json").write_text(json.dumps(self.node))
        self.live = LiveNode(folder)
        self.mps = MpsHost(folder, self.live.path)
        self.configure(MPS)

    def configure(self, sharing: object, **health: object) -> None:
        """Replace the configuration file of each tree."""
        new = self.folder / "config.new"
        timing = {"pollInterval": "200ms", **health}
        whole = {"version": "v1", "flags": self.flags, "sharing": sharing, "health": timing}
        for name in FILES:
            new.write_text(json.dumps(whole))
            new.rename(self.folder / name)

    def _options(self, file: str) -> list[str]:
        return [
            f"--simulated-node={self.folder}/node.json",
            f"--config-file={self.folder}/{file}",
            f"--mps-root={self.root}",
            f"--mps-control-path={self.mps.program}",
        ]

    def plugin(self, exec_because: str = "") -> contextlib.AbstractAsyncContextManager[Service]:
        """Run `gpu-sharing-plugin run`; *exec_because* as for `service`."""
        return service(self.folder, *self._options(FILES[0]), exec_because=exec_because)

    @contextlib.asynccontextmanager
    async def tree(
        self, within: Sequence[str] = (), exec_because: str = ""
    ) -> AsyncIterator[Service]:
        """Run `gpu-sharing-plugin mps`; the arguments are those of `service`."""
        options = ["mps", *self._options(FILES[1]), f"--state-dir={self.folder}/mps-state"]
        started = service(self.folder, *options, within=within, exec_because=exec_because)
        async with started as running:
            running.folder = self.folder / "mps"
            yield running

    async def command(self, *words: str) -> tuple[int, str]:
        """Run a command on this host; return its exit code and what it printed.

        The runtime folder is that of the plugin, unless *words* name another one.
        """
        given = (words[0], f"--runtime-dir={self.folder}", *words[1:])
        done = await asyncio.to_thread(commands.run, *given)
        return done.returncode, done.stdout + done.stderr

    def pipe(self, place: int = 0) -> Path:
        """Return the pipe folder of a GPU."""
        return Path(pipe_folder(str(self.root), self.uuids[place]))

    def modes(self) -> list[int]:
        """Return the compute modes of all GPUs."""
        found = self.live.read().modes
        return [found.get(uuid, 0) for uuid in self.uuids]

    def running(self) -> list[int]:
        """Return the PIDs of all daemons that run."""
        return [program["pid"] for program in self.mps.programs() if alive(program["pid"])]

    def clean(self) -> None:
        """End all daemons, and unmount what keepers mounted."""
        self.mps.end_all()
        ctypes.CDLL(None).umount2(bytes(self.root / "shm"), MNT_DETACH)


async def daemons(folder: Path, phase: Phase, count: int) -> dict[str, MpsDaemon]:
    """Wait until the tree publishes *count* daemons that are all in *phase*; return them by UUID.

    It listens as the plugin does.
    """
    last = None
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
    socket.linger = 0
    socket.subscribe(b"")
    socket.connect(f"ipc://{folder}/mps.ipc")
    inbox = Inbox(socket)
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                last = await bus.receive(inbox)
                assert isinstance(last, MpsState)
                if [daemon.phase for daemon in last.daemons] == [phase] * count:
                    return {daemon.uuid: daemon for daemon in last.daemons}
    except TimeoutError:
        raise AssertionError(f"it does not come; last state: {last}") from None
    finally:
        inbox.close()


@contextlib.contextmanager
def mps_host(gpus: int = 2, mig: Sequence[str] = ()) -> Iterator[Host]:
    """Yield a new host; end its daemons afterwards."""
    with short_folder() as folder, short_folder() as root:
        root.chmod(0o755)
        made = Host(folder, root, gpus, mig)
        try:
            yield made
        finally:
            made.clean()


async def allocate(kubelet: Kubelet, name: str) -> api.ContainerAllocateResponse:
    """Return what the plugin answers for a container with one device."""
    request = api.ContainerAllocateRequest(devices_ids=[name])
    asked = api.AllocateRequest(container_requests=[request])
    answer = await kubelet.resources[GPU].stub.Allocate(asked)
    return answer.container_responses[0]


def unhealthy(kubelet: Kubelet, uuid: str) -> int:
    """Return how many replicas of a device the kubelet knows as Unhealthy."""
    known = kubelet.resources.get(GPU)
    devices = known.devices if known else {}
    return sum(h != "Healthy" for name, h in devices.items() if name.startswith(uuid))
