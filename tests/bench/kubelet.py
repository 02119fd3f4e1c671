"""A kubelet that only records when lists arrive; it does not decode them at once."""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import (
    DevicePluginStub,
    RegistrationServicer,
    add_RegistrationServicer_to_server,
)
from proto.grpc_client import CLIENT_OPTIONS
from tests.fakes.service import PATIENCE

LIST_AND_WATCH = "/v1beta1.DevicePlugin/ListAndWatch"


@dataclass(frozen=True, slots=True)
class Heard:
    """A list, and the time of its arrival."""

    resource: str
    at: float
    data: bytes

    def ids(self) -> list[str]:
        """Return the ids of its devices."""
        return [device.ID for device in api.ListAndWatchResponse.FromString(self.data).devices]

    def unhealthy(self) -> int:
        """Return the number of its Unhealthy devices."""
        return self.data.count(b"Unhealthy")


class Kubelet(RegistrationServicer):
    """A registration server that opens a stream to each plugin that registers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoints: dict[str, str] = {}
        """The socket of each resource."""
        self.newest: dict[str, Heard] = {}
        """The last list of each resource."""
        self.pods = b""
        """What the pod resources API answers."""
        self._heard: queue.Queue[Heard] = queue.Queue()
        self._channels: list[grpc.Channel] = []
        self._server: grpc.Server | None = None

    def start(self) -> float:
        """Empty the folder and listen; return the time from which it listens."""
        self.folder.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink()
        self._server = grpc.server(ThreadPoolExecutor(8))
        add_RegistrationServicer_to_server(self, self._server)
        nobody: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: self.pods)  # noqa: ARG005
        lister = grpc.method_handlers_generic_handler("v1.PodResourcesLister", {"List": nobody})
        self._server.add_generic_rpc_handlers((lister,))
        self._server.add_insecure_port(f"unix:{self.folder}.pods")
        self._server.add_insecure_port(f"unix:{self.folder}/kubelet.sock")
        listening = time.perf_counter()
        self._server.start()
        return listening

    def stop(self) -> None:
        """Close all streams and stop listening."""
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        if self._server:
            self._server.stop(None).wait()

    def Register(self, request: api.RegisterRequest, context: object) -> api.Empty:
        """Register a plugin and read its lists."""
        del context
        endpoint = f"{self.folder}/{request.endpoint}"
        self.endpoints[request.resource_name] = endpoint
        channel = grpc.insecure_channel(f"unix:{endpoint}", CLIENT_OPTIONS)
        self._channels.append(channel)
        listen = threading.Thread(target=self._listen, args=(request.resource_name, channel))
        listen.daemon = True
        listen.start()
        return api.Empty()

    def _listen(self, resource: str, channel: grpc.Channel) -> None:
        call: Any = channel.unary_stream(LIST_AND_WATCH)  # without a deserialiser, to get bytes
        with contextlib.suppress(grpc.RpcError, ValueError):  # stream or channel closed
            for data in call(b"", wait_for_ready=True):
                self.newest[resource] = heard = Heard(resource, time.perf_counter(), data)
                self._heard.put(heard)

    def next_list(self) -> Heard:
        """Return the next list; wait for it if necessary."""
        return self._heard.get(timeout=PATIENCE)

    def list_with(self, unhealthy: int) -> Heard:
        """Return the next list with so many Unhealthy devices."""
        while (heard := self.next_list()).unhealthy() != unhealthy:
            pass
        return heard

    def lists_of(self, resources: int) -> list[Heard]:
        """Return the next list of each of so many resources, in the order of arrival."""
        found: dict[str, Heard] = {}
        while len(found) < resources:
            heard = self.next_list()
            if heard.data:
                found.setdefault(heard.resource, heard)
        return list(found.values())

    def stub(self, resource: str) -> tuple[grpc.Channel, DevicePluginStub]:
        """Return a new channel to a resource's plugin, and a stub for its calls."""
        channel = grpc.insecure_channel(f"unix:{self.endpoints[resource]}", CLIENT_OPTIONS)
        return channel, DevicePluginStub(channel)


@contextlib.contextmanager
def kubelet(folder: Path) -> Iterator[Kubelet]:
    """Run a kubelet in *folder*/kubelet."""
    running = Kubelet(folder / "kubelet")
    running.start()
    try:
        yield running
    finally:
        running.stop()
