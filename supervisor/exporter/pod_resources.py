"""Ask the kubelet which container holds which device: its pod resources API, over its own socket.

Never guessed from what was allocated: the kubelet frees devices lazily and tells nobody.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import grpc
from loguru import logger

from proto import podresources_pb2 as api
from proto.podresources_pb2_grpc import PodResourcesListerStub
from supervisor.status.allocations import Allocation

EVERY = 10.0
"""Seconds between two questions."""

SLOWEST = 60.0
"""Seconds between two questions while the kubelet does not answer, at most."""

SOON = 0.2
"""Seconds from an Allocate to the question: the kubelet notes who got what after it."""

ANSWER_WITHIN = 5.0
LONGEST_ANSWER = 64 << 20
"""Bytes; dense nodes pass the usual limit of 4 MiB."""

OPTIONS = (
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", LONGEST_ANSWER),
)


class NonsenseError(Exception):
    """The answer cannot be decoded."""


class PodResources:
    """The kubelet's word, asked for again and again."""

    def __init__(self, socket: str, planned: Callable[[], frozenset[str]]) -> None:
        """Ask at *socket*, if there is one, about the resources that *planned* returns."""
        self._socket = socket
        self._planned = planned
        self._soon = asyncio.Event()
        self._wait = 0.0
        self._problem = ""

    def look(self) -> None:
        """Ask soon, as something was allocated."""
        self._soon.set()

    async def next(self) -> tuple[Allocation, ...] | None:
        """Wait until it is time to ask; return who holds what, None while nobody tells."""
        if not self._socket:
            await asyncio.Event().wait()
        await self._pause()
        try:
            found = await self._list()
        except (grpc.aio.AioRpcError, TimeoutError, NonsenseError) as error:
            self._on_failed(error)
            return None
        self._wait, self._problem = EVERY, ""
        return found

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                await self._soon.wait()
                await asyncio.sleep(SOON)  # several pods in a row are one question
        self._soon.clear()

    async def _list(self) -> tuple[Allocation, ...]:
        # A channel for each question: one that is kept backs off after a kubelet's restart.
        async with grpc.aio.insecure_channel(f"unix:{self._socket}", OPTIONS) as channel:
            stub = PodResourcesListerStub(channel)
            answer = await stub.List(api.ListPodResourcesRequest(), timeout=ANSWER_WITHIN)
        if answer is None:  # how grpc.aio tells that it could not decode it
            raise NonsenseError
        return allocations(answer, self._planned())

    def _on_failed(self, error: Exception) -> None:
        match error:
            case grpc.aio.AioRpcError():
                code = error.code().name
            case NonsenseError():
                code = "NONSENSE"
            case _:
                code = "TIMEOUT"
        if code != self._problem:
            logger.warning("the kubelet does not tell who holds what", code=code)
        self._problem = code
        self._wait = min(max(1.0, 2 * self._wait), SLOWEST)


def allocations(
    answer: api.ListPodResourcesResponse, resources: frozenset[str]
) -> tuple[Allocation, ...]:
    """Return each device of our *resources* that a container holds, once however often it is told.

    Twice would be two series of one name, and a device too many in use.
    """
    return tuple(dict.fromkeys(_told(answer, resources)))


def _told(answer: api.ListPodResourcesResponse, resources: frozenset[str]) -> Iterator[Allocation]:
    for pod in answer.pod_resources:
        for container in pod.containers:
            for devices in container.devices:
                if devices.resource_name in resources:
                    for device in devices.device_ids:
                        yield Allocation(
                            devices.resource_name, device, pod.namespace, pod.name, container.name
                        )
