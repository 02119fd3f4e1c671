"""The stand-in kubelet's pod resources API: which pod holds which devices."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from proto import podresources_pb2 as api
from proto.podresources_pb2_grpc import PodResourcesListerServicer
from simulator.usage import CONTAINER

NAMESPACE = "simulated"

Holders = Mapping[str, tuple[str, tuple[str, ...]]]
"""The resource and the device IDs that each pod holds, by pod."""


class PodLister(PodResourcesListerServicer):
    """Answers List; like an old kubelet, it does not implement the newer calls."""

    def __init__(self, holders: Callable[[], Holders]) -> None:
        self._holders = holders

    async def List(
        self, request: api.ListPodResourcesRequest, context: object
    ) -> api.ListPodResourcesResponse:
        """Return every pod that holds devices."""
        return api.ListPodResourcesResponse(
            pod_resources=(
                api.PodResources(
                    name=pod_name(pod),
                    namespace=NAMESPACE,
                    containers=[_container(resource, ids)],
                )
                for pod, (resource, ids) in self._holders().items()
            )
        )

    async def GetAllocatableResources(
        self,
        request: api.AllocatableResourcesRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> api.AllocatableResourcesResponse:
        """Answer that the method is not implemented."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method")

    async def Get(
        self,
        request: api.GetPodResourcesRequest,
        context: "grpc.aio.ServicerContext[Any, Any]",
    ) -> api.GetPodResourcesResponse:
        """Answer that the method is not implemented."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "unknown method")


def pod_name(pod: str) -> str:
    """Return a name for *pod* that Kubernetes would allow."""
    return re.sub(r"[^-a-z0-9.]", "-", pod.lower())


def _container(resource: str, ids: tuple[str, ...]) -> api.ContainerResources:
    devices = api.ContainerDevices(resource_name=resource, device_ids=ids)
    return api.ContainerResources(name=CONTAINER, devices=[devices])
