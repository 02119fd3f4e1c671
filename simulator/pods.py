"""The stand-in kubelet's pod resources API: which pod holds which devices."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from proto import podresources_pb2 as api
from proto.podresources_pb2_grpc import PodResourcesListerServicer
from simulator.usage import CONTAINER

NAMESPACE = "simulated"

Holders = Mapping[str, tuple[str, tuple[str, ...]]]
"""The resource and the device IDs that each pod holds, by pod."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A device that a pod holds through DRA."""

    device: str
    """The driver's name of the device."""
    driver: str = "gpu.nvidia.com"
    pool: str = "simulated-node"
    cdi: tuple[str, ...] = ()
    """The names of its CDI devices."""


class PodLister(PodResourcesListerServicer):
    """Answers List; like an old kubelet, it does not implement the newer calls."""

    def __init__(
        self, holders: Callable[[], Holders], claimed: Callable[[], Mapping[str, Claimed]]
    ) -> None:
        self._holders = holders
        self._claimed = claimed

    async def List(
        self, request: api.ListPodResourcesRequest, context: object
    ) -> api.ListPodResourcesResponse:
        """Return every pod that holds devices."""
        containers = {pod: _container(*held) for pod, held in self._holders().items()}
        containers |= {pod: _claiming(pod, held) for pod, held in self._claimed().items()}
        return api.ListPodResourcesResponse(
            pod_resources=(
                api.PodResources(name=pod_name(pod), namespace=NAMESPACE, containers=[container])
                for pod, container in containers.items()
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


def _claiming(pod: str, held: Claimed) -> api.ContainerResources:
    device = api.ClaimResource(
        cdi_devices=[api.CDIDevice(name=name) for name in held.cdi],
        driver_name=held.driver,
        pool_name=held.pool,
        device_name=held.device,
    )
    claim = api.DynamicResource(
        claim_name=f"{pod_name(pod)}-claim", claim_namespace=NAMESPACE, claim_resources=[device]
    )
    return api.ContainerResources(name=CONTAINER, dynamic_resources=[claim])
