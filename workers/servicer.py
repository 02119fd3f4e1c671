"""The five calls of the device plugin API: decodes requests, calls pure code, encodes answers."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from loguru import logger

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import DevicePluginServicer
from proto.worker import Handout
from workers import response
from workers.allocation import Allocator
from workers.burst import Burst
from workers.device_log import Container
from workers.devices import View
from workers.listing import Shelf
from workers.rpcs import Rpcs
from workers.topology import Topology

PreferredContext = grpc.aio.ServicerContext[
    api.PreferredAllocationRequest, api.PreferredAllocationResponse
]
AllocateContext = grpc.aio.ServicerContext[api.AllocateRequest, api.AllocateResponse]

MOST_CONTAINERS = 100
"""Containers allowed in one request; a kubelet asks for one.

A request for a million containers has 2 MB and would need 600 MB of memory to answer.
"""

OPTIONS = api.DevicePluginOptions(get_preferred_allocation_available=True)


class Servicer(DevicePluginServicer):
    """Answers the kubelet from the newest view."""

    def __init__(self, shelf: Shelf, handout: Handout, on_change: Callable[[], None]) -> None:
        self.shelf = shelf
        self._handout = handout
        self._allocator = self._allocator_of(shelf.view)
        self._on_change = on_change
        self.burst = Burst(on_change)
        self.streams = 0
        """Open ListAndWatch streams."""
        self.rpcs = Rpcs()

    def show(self, view: View) -> None:
        """Answer from *view* from now on, and send its list to all open streams."""
        before = self.shelf.view
        if view.replicas is not before.replicas or view.links != before.links:
            self._allocator = self._allocator_of(view)
        self.shelf.put(view)

    def hand_out(self, handout: Handout) -> None:
        """Use *handout* for all following allocations."""
        self._handout = handout
        self._allocator = self._allocator_of(self.shelf.view)

    def _allocator_of(self, view: View) -> Allocator:
        return Allocator(view.replicas, self._handout.policy, Topology.of(view.links))

    async def GetDevicePluginOptions(
        self, request: api.Empty, context: object
    ) -> api.DevicePluginOptions:
        """Answer that we support GetPreferredAllocation and do not need PreStartContainer."""
        with self.rpcs.counted("GetDevicePluginOptions", context):
            return OPTIONS

    # Bytes, not a message: the list is encoded once for all streams (see kubelet.py).
    async def ListAndWatch(  # type: ignore[override]
        self, request: api.Empty, context: object
    ) -> AsyncIterator[bytes]:
        """Send the list now and after each change; each stream remembers what it sent last."""
        self.streams += 1
        self._on_change()
        sent = None
        try:
            while (sent := await self.shelf.next_list(sent)) is not None:
                yield sent
        finally:
            self.streams -= 1
            self._on_change()

    async def GetPreferredAllocation(
        self, request: api.PreferredAllocationRequest, context: PreferredContext
    ) -> api.PreferredAllocationResponse:
        """Answer which devices each container should get.

        A kubelet's request never gets an error: an error would fail the pod.
        """
        with self.rpcs.counted("GetPreferredAllocation", context):
            await _require_few(len(request.container_requests), context)
            answers = [self._preferred(container) for container in request.container_requests]
            return api.PreferredAllocationResponse(container_responses=answers)

    def _preferred(
        self, request: api.ContainerPreferredAllocationRequest
    ) -> api.ContainerPreferredAllocationResponse:
        ids = self._allocator.preferred(
            request.available_deviceIDs,
            request.must_include_deviceIDs,
            request.allocation_size,
        )
        if len(ids) < request.allocation_size:
            logger.warning(
                "fewer devices are available than the kubelet requested",
                asked=request.allocation_size,
                given=len(ids),
            )
        return api.ContainerPreferredAllocationResponse(deviceIDs=ids)

    async def Allocate(
        self, request: api.AllocateRequest, context: AllocateContext
    ) -> api.AllocateResponse:
        """Answer how each container gets its devices; refuse Unhealthy and unknown devices."""
        view = self.shelf.view
        with self.rpcs.counted("Allocate", context):
            await _require_few(len(request.container_requests), context)
            try:
                answers = [self._allocate(view, r) for r in request.container_requests]
            except response.RefusedError as error:
                logger.warning("refused to allocate devices to a container", error=str(error))
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
            known = view.replicas
            self.burst.add(Container(known, r.devices_ids) for r in request.container_requests)
            return api.AllocateResponse(container_responses=answers)

    def _allocate(
        self, view: View, request: api.ContainerAllocateRequest
    ) -> api.ContainerAllocateResponse:
        return response.allocate(view, self._handout, request.devices_ids)

    async def PreStartContainer(
        self, request: api.PreStartContainerRequest, context: object
    ) -> api.PreStartContainerResponse:
        """Do nothing: we did not ask for this call, but a kubelet may still make it."""
        with self.rpcs.counted("PreStartContainer", context):
            return api.PreStartContainerResponse()


async def _require_few(containers: int, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
    if containers > MOST_CONTAINERS:
        why = (
            f"cannot answer a request for {containers} containers: "
            f"send at most {MOST_CONTAINERS} containers in one request"
        )
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, why)
