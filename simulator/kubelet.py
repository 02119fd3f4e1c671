"""A stand-in kubelet: serves the registration API and treats plugins as a kubelet does.

It empties its folder at start, registers plugins as a given kubelet version does, lets a second
registration replace the first, and admits pods through GetPreferredAllocation and Allocate.
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
from proto.grpc_client import CLIENT_OPTIONS
from proto.podresources_pb2_grpc import add_PodResourcesListerServicer_to_server
from simulator.kubelet_habits import NEWEST, Habits
from simulator.pods import Claimed, PodLister

if TYPE_CHECKING:
    from proto.deviceplugin_pb2_grpc import DevicePluginAsyncStub
from proto.deviceplugin_pb2_grpc import (
    DevicePluginStub,
    RegistrationServicer,
    add_RegistrationServicer_to_server,
)

DIAL = 10.0
"""Seconds that the kubelet waits for the connection to a registering plugin."""


class AdmissionError(Exception):
    """The kubelet would reject the pod."""


@dataclass(slots=True)
class RegisteredResource:
    """A registered resource in the kubelet's memory."""

    name: str
    endpoint: str
    stub: "DevicePluginAsyncStub"
    channel: grpc.aio.Channel
    options: api.DevicePluginOptions
    devices: dict[str, str] = field(default_factory=dict)
    """Health by device ID, from the newest list."""
    numa: dict[str, tuple[int, ...]] = field(default_factory=dict)
    lists: int = 0
    """Device lists received since this registration."""
    connected: bool = True
    """Whether the plugin's stream is open; without it no device is allocated."""
    watch: asyncio.Task[None] | None = None

    def healthy(self) -> list[str]:
        """Return the IDs of the allocatable devices."""
        return [i for i, health in self.devices.items() if health == "Healthy" and self.connected]


@dataclass(frozen=True, slots=True)
class Admitted:
    """What an admitted pod got."""

    resource: str
    ids: tuple[str, ...]
    envs: Mapping[str, str]
    cdi: tuple[str, ...] = ()
    """CDI names, if the kubelet version reads them."""


class Kubelet(RegistrationServicer):
    """The registration server and the registered resources."""

    def __init__(self, folder: Path, seed: int = 0, habits: Habits = NEWEST) -> None:
        self.socket = folder / "kubelet.sock"
        self.pod_resources = folder.parent / "pod-resources.sock"
        self.habits = habits
        self.resources: dict[str, RegisteredResource] = {}
        self.registrations = 0
        self._folder = folder
        self._server: grpc.aio.Server | None = None
        self._changed = asyncio.Condition()
        self._held: dict[str, Admitted] = {}
        self.claimed: dict[str, Claimed] = {}
        """What each pod holds through DRA: no device plugin knows of it."""
        self._dialling: set[asyncio.Task[None]] = set()
        self._replaced: set[asyncio.Task[None]] = set()
        """Streams of earlier registrations; they stay open until the plugin ends them."""
        self._random = random.Random(seed)  # noqa: S311 - the order of ids, not a secret

    async def start(self) -> None:
        """Empty the folder and listen, as the kubelet does at every start."""
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.is_socket() or (self.habits.removes_files and path.is_file()):
                path.unlink(missing_ok=True)
        self._server = grpc.aio.server()
        add_RegistrationServicer_to_server(self, self._server)
        lister = PodLister(self.holders, lambda: self.claimed)
        add_PodResourcesListerServicer_to_server(lister, self._server)
        for path in (self.socket, self.pod_resources):
            self._server.add_insecure_port(f"unix:{path}")
        await self._server.start()

    async def stop(self) -> None:
        """Stop listening and disconnect all plugins; allocations of pods are kept."""
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
        """Register a plugin; habits decide whether to answer before or after dialling it."""
        connecting = asyncio.create_task(self._connect(request))
        if self.habits.answers_first:
            self._dialling.add(connecting)
            connecting.add_done_callback(self._dialled)
        else:
            await connecting
        return api.Empty()

    def _dialled(self, task: asyncio.Task[None]) -> None:
        """Drop a finished dial; like kubelet 1.20, ignore its failure silently."""
        self._dialling.discard(task)
        if not task.cancelled():
            task.exception()

    async def _connect(self, request: api.RegisterRequest) -> None:
        channel = grpc.aio.insecure_channel(
            f"unix:{self._folder / request.endpoint}", CLIENT_OPTIONS
        )
        await asyncio.wait_for(channel.channel_ready(), DIAL)
        name, stub = request.resource_name, DevicePluginStub(channel)
        asks = self.habits.asks_options
        options = await stub.GetDevicePluginOptions(api.Empty()) if asks else request.options
        resource = RegisteredResource(name, request.endpoint, stub, channel, options)
        if (before := self.resources.get(name)) and before.watch:
            self._replaced.add(before.watch)
            before.watch.add_done_callback(self._replaced.discard)
        self.resources[name] = resource
        self.registrations += 1
        resource.watch = asyncio.create_task(self._watch(resource))

    async def _watch(self, resource: RegisteredResource) -> None:
        """Receive the plugin's lists until the stream ends or our channel is closed."""
        try:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await self._take_lists(resource)
        finally:
            await self._disconnect(resource)

    async def _take_lists(self, resource: RegisteredResource) -> None:
        async for message in resource.stub.ListAndWatch(api.Empty()):
            resource.devices = {device.ID: device.health for device in message.devices}
            resource.numa = {d.ID: tuple(n.ID for n in d.topology.nodes) for d in message.devices}
            resource.lists += 1
            await self._tell()

    async def _disconnect(self, resource: RegisteredResource) -> None:
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
        """Return the number of allocatable devices of *resource*."""
        known = self.resources.get(resource)
        return len(known.healthy()) if known else 0

    async def admit(self, pod: str, name: str, count: int) -> Admitted:
        """Allocate *count* devices to a pod; AdmissionError if the kubelet would reject the pod."""
        resource = self.resources.get(name)
        held = {i for pod in self._held.values() if pod.resource == name for i in pod.ids}
        free = [i for i in (resource.healthy() if resource else []) if i not in held]
        if resource is None or len(free) < count:
            raise AdmissionError(f"Insufficient {name}: requested {count}, free {len(free)}")
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
        cdi = tuple(device.name for device in answer.cdi_devices) if self.habits.reads_cdi else ()
        self._held[pod] = Admitted(name, tuple(sorted(ids)), dict(answer.envs), cdi)
        return self._held[pod]

    async def _preferred(
        self, resource: RegisteredResource, free: list[str], count: int
    ) -> list[str]:
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
        """Return the resource and the device IDs that each pod holds."""
        return {pod: (got.resource, got.ids) for pod, got in self._held.items()}

    def delete(self, pod: str) -> None:
        """Delete a pod and free its devices."""
        del self._held[pod]


async def _forget(resource: RegisteredResource) -> None:
    if resource.watch:
        resource.watch.cancel()
        await asyncio.gather(resource.watch, return_exceptions=True)
    await resource.channel.close()
