"""A kubelet's pod resources API that answers with any bytes, and hostile lists of pods."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError

from proto import podresources_pb2 as api
from supervisor.status import dra
from supervisor.status.allocations import Allocation, DynamicDevice, Held

GPU = "nvidia.com/gpu"
MIB = 1 << 20


@dataclass
class PodLists:
    """A running server; tests may change the answer."""

    answer: bytes
    calls: int = 0

    async def list(self, request: bytes, context: object) -> bytes:
        """Answer a call."""
        del request, context
        self.calls += 1
        return self.answer


@contextlib.asynccontextmanager
async def pod_lists(
    path: Path, answer: bytes, compression: grpc.Compression = grpc.Compression.NoCompression
) -> AsyncIterator[PodLists]:
    """Answer each List call on the socket *path* with *answer*."""
    running = PodLists(answer)
    server = grpc.aio.server(
        options=[("grpc.max_send_message_length", -1)], compression=compression
    )
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(running.list)
    server.add_registered_method_handlers("v1.PodResourcesLister", {"List": handler})
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield running
    finally:
        await server.stop(None)


def field(number: int, value: bytes) -> bytes:
    """Return a protobuf field of bytes."""
    size, length = len(value), b""
    while size >= 0x80:
        size, length = size >> 7, length + bytes([size & 0x7F | 0x80])
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def pod(devices: bytes) -> bytes:
    """Return a list of one pod with one container of these devices."""
    return field(1, field(3, field(2, field(1, GPU.encode()) + devices)))


def claim(devices: bytes) -> bytes:
    """Return a list of one pod with one container that holds these devices through DRA."""
    return field(1, field(3, field(5, devices)))


NVIDIA = field(2, b"gpu.nvidia.com")
UUID = b"GPU-00000000-0000-0000-0000-000000000000"

HOSTILE: dict[str, Callable[[int], bytes]] = {
    "pods": lambda size: field(1, b"") * (size // 2),
    "containers": lambda size: field(1, field(3, b"") * (size // 2)),
    "devices": lambda size: field(1, field(3, field(2, b"") * (size // 2))),
    "ids": lambda size: pod(field(2, b"") * (size // 2)),
    "pods with ids": lambda size: pod(field(2, b"")) * (size // 26),
    "one long name": lambda size: field(1, field(1, b"p" * size)),
    "claims": lambda size: field(1, field(3, field(5, b"") * (size // 2))),
    "claimed devices": lambda size: claim(field(4, b"") * (size // 2)),
    "claimed devices of NVIDIA": lambda size: claim(field(4, NVIDIA) * (size // 18)),
    "CDI names": lambda size: claim(field(4, field(1, b"") * (size // 2))),
    "UUIDs in a CDI name": lambda size: claim(field(4, field(1, field(1, UUID * (size // 40))))),
    "unknown fields": lambda size: b"\x78\x01" * (size // 2),
    "garbage": lambda size: b"\xff" * size,
}
"""Lists of about so many bytes."""


def plainly(data: bytes, resources: frozenset[str]) -> Held | None:
    """Read a list with protobuf alone; None if protobuf cannot decode it."""
    try:
        answer = api.ListPodResourcesResponse.FromString(data)
    except DecodeError:
        return None
    found = (
        Allocation(devices.resource_name, device, one.namespace, one.name, container.name)
        for one in answer.pod_resources
        for container in one.containers
        for devices in container.devices
        for device in devices.device_ids
        if devices.resource_name in resources
    )
    return Held(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(_dynamic(answer))))


def _dynamic(answer: api.ListPodResourcesResponse) -> Iterator[DynamicDevice]:
    for one in answer.pod_resources:
        for container in one.containers:
            for claim in container.dynamic_resources:
                for device in claim.claim_resources:
                    names = [device.device_name, *(cdi.name for cdi in device.cdi_devices)]
                    uuids = tuple(dict.fromkeys(dra.UUID.findall("\n".join(names).lower())))
                    if uuids or device.driver_name == dra.NVIDIA:
                        yield DynamicDevice(
                            device.driver_name,
                            device.pool_name,
                            device.device_name,
                            f"{claim.claim_namespace}/{claim.claim_name}",
                            one.namespace,
                            one.name,
                            container.name,
                            uuids,
                        )
