"""A stand-in kubelet: a real server of the registration API that treats plugins as one does.

It empties its folder at start, takes plugins in with the habits of a version (habits.py), lets a
second registration replace the first, and admits pods by GetPreferredAllocation and Allocate.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from proto import deviceplugin_pb2 as api
from proto.podresources_pb2_grpc import add_PodResourcesListerServicer_to_server
from simulator.habits import NEWEST, Habits
from simulator.pods import PodLister

if TYPE_CHECKING:
    from proto.deviceplugin_pb2_grpc import DevicePluginAsyncStub
from proto.deviceplugin_pb2_grpc import (
    DevicePluginStub,
    RegistrationServicer,
    add_RegistrationServicer_to_server,
)

DIAL = 10.0
"""Seconds for which the kubelet tries to reach a plugin that registers."""


class AdmissionError(Exception):
    """A pod that the kubelet would reject."""


@dataclass(slots=True)
class Resource:
    """A registered resource, as the kubelet keeps it."""

    name: str
    endpoint: str
    stub: "DevicePluginAsyncStub"
    channel: grpc.aio.Channel
    options: api.DevicePluginOptions
    devices: dict[str, str] = field(default_factory=dict)
    """Health by id; what the newest list says."""
    numa: dict[str, tuple[int, ...]] = field(default_factory=dict)
    lists: int = 0
    """Lists received in this registration."""
    connected: bool = True
    """The plugin's stream is open; without it no device is handed out."""
    watch: asyncio.Task[None] | None = None

    def healthy(self) -> list[str]:
        """Return the ids that may be handed out."""
        return [i for i, health in self.devices.items() if health == "Healthy" and self.connected]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What a pod got."""

    resource: str
    ids: tuple[str, ...]
    envs: Mapping[str, str]
    cdi: tuple[str, ...] = ()
    """CDI names, where the kubelet's version knows them."""


class Kubelet(RegistrationServicer):
    """The registration server and what has registered with it."""

    def __init__(self, folder: Path, seed: int = 0, habits: Habits = NEWEST) -> None:
        self.socket = folder / "kubelet.sock"
        self.pod_resources = folder.parent / "pod-resources.sock"
        self.habits = habits
        self.resources: dict[str, Resource] = {}
        self.registrations = 0
        self._folder = folder
        self._server: grpc.aio.Server | None = None
        self._changed = asyncio.Condition()
        self._held: dict[str, Admitted] = {}
        self._dialling: set[asyncio.Task[None]] = set()
        self._replaced: set[asyncio.Task[None]] = set()
        """The streams of earlier registrations, which stay open until the plugin ends them."""
        self._random = random.Random(seed)  # noqa: S311 - the order of ids, not a secret

    async def start(self) -> None:
        """Empty the folder and listen, as the kubelet does at every start."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.is_socket() or (self.habits.removes_files and path.is_file()):
                path.unlink(missing_ok=True)
        self._server = grpc.aio.server()
        add_RegistrationServicer_to_server(self, self._server)
        add_PodResourcesListerServicer_to_server(PodLister(self.holders), self._server)
        for path in (self.socket, self.pod_resources):
            self._server.add_insecure_port(f"unix:{path}")
        await self._server.start()

    async def stop(self) -> None:
        """Stop listening and hang up on all plugins; what pods hold is remembered."""
        for task in (*self._dialling, *self._replaced):
            task.cancel()
        await asyncio.gather(*self._dialling, *self._replaced, return_exceptions=True)
        for resource in list(self.resources.values()):
            await _forget(resource)
        self.resources.clear()
        if self._server:
            await self._server.stop(None)
            self._server = None

    async def Register(self, request: api.RegisterRequest, context: object) -> api.Empty:
        """Take a plugin in, once it is reached on its own socket, or before that."""
        connecting = asyncio.create_task(self._connect(request))
        if self.habits.answers_first:
            self._dialling.add(connecting)
            connecting.add_done_callback(self._dialled)
        else:
            await connecting
        return api.Empty()

    def _dialled(self, task: asyncio.Task[None]) -> None:
        """Forget a plugin that was dialled; nobody hears of it if that failed, as in 1.20."""
        self._dialling.discard(task)
        if not task.cancelled():
            task.exception()

    async def _connect(self, request: api.RegisterRequest) -> None:
        channel = grpc.aio.insecure_channel(
            f"unix:{self._folder / request.endpoint}",
            (("grpc.default_authority", "localhost"), ("grpc.enable_http_proxy", 0)),
        )
        await asyncio.wait_for(channel.channel_ready(), DIAL)
        name, stub = request.resource_name, DevicePluginStub(channel)
        asks = self.habits.asks_options
        options = await stub.GetDevicePluginOptions(api.Empty()) if asks else request.options
        resource = Resource(name, request.endpoint, stub, channel, options)
        if (before := self.resources.get(name)) and before.watch:
            self._replaced.add(before.watch)
            before.watch.add_done_callback(self._replaced.discard)
        self.resources[name] = resource
        self.registrations += 1
        resource.watch = asyncio.create_task(self._watch(resource))

    async def _watch(self, resource: Resource) -> None:
        """Take in the plugin's lists until its stream ends, or our own channel is closed."""
        try:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._take_lists(resource)
        finally:
            await self._disconnect(resource)

    async def _take_lists(self, resource: Resource) -> None:
        async for message in resource.stub.ListAndWatch(api.Empty()):
            resource.devices = {device.ID: device.health for device in message.devices}
            resource.numa = {d.ID: tuple(n.ID for n in d.topology.nodes) for d in message.devices}
            resource.lists += 1
            await self._tell()

    async def _disconnect(self, resource: Resource) -> None:
        current = self.resources.get(resource.name, resource)
        ended = current if self.habits.knows_by_name else resource
        ended.connected = False
        await resource.channel.close()
        if ended is not resource:
            await ended.channel.close()
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[["Kubelet"], bool], seconds: float = 60.0) -> None:
        """Wait until *condition* holds; TimeoutError after *seconds*, a guard on a busy machine."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def changed(self) -> None:
        """Wait for the next change of any resource."""
        async with self._changed:
            await self._changed.wait()

    def healthy(self, resource: str) -> int:
        """Return how many devices of *resource* may be handed out."""
        known = self.resources.get(resource)
        return len(known.healthy()) if known else 0

    async def admit(self, pod: str, name: str, count: int) -> Admitted:
        """Give *count* devices to a pod; AdmissionError where the kubelet would reject it."""
        resource = self.resources.get(name)
        held = {i for one in self._held.values() if one.resource == name for i in one.ids}
        free = [i for i in (resource.healthy() if resource else []) if i not in held]
        if resource is None or len(free) < count:
            raise AdmissionError(f"Insufficient {name}: asked {count}, free {len(free)}")
        self._random.shuffle(free)
        try:
            preferred = await self._preferred(resource, free, count)
            ids = (preferred + [i for i in free if i not in preferred])[:count]
            response = await resource.stub.Allocate(
                api.AllocateRequest(
                    container_requests=[api.ContainerAllocateRequest(devices_ids=ids)]
                )
            )
        except grpc.aio.AioRpcError as error:
            raise AdmissionError(f"UnexpectedAdmissionError: {error.details()}") from error
        answer = response.container_responses[0]
        cdi = tuple(one.name for one in answer.cdi_devices) if self.habits.reads_cdi else ()
        self._held[pod] = Admitted(name, tuple(sorted(ids)), dict(answer.envs), cdi)
        return self._held[pod]

    async def _preferred(self, resource: Resource, free: list[str], count: int) -> list[str]:
        request = api.ContainerPreferredAllocationRequest(
            available_deviceIDs=free, allocation_size=count
        )
        if not resource.options.get_preferred_allocation_available:
            return []
        response = await resource.stub.GetPreferredAllocation(
            api.PreferredAllocationRequest(container_requests=[request])
        )
        return [i for i in response.container_responses[0].deviceIDs if i in free]

    def holders(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return the resource and the ids that each pod holds."""
        return {pod: (one.resource, one.ids) for pod, one in self._held.items()}

    def delete(self, pod: str) -> None:
        """Let a pod's devices be free again."""
        del self._held[pod]


async def _forget(resource: Resource) -> None:
    if resource.watch:
        resource.watch.cancel()
        await asyncio.gather(resource.watch, return_exceptions=True)
    await resource.channel.close()
