"""Asks the kubelet's pod resources API which container holds which device.

Allocate calls cannot show this: the kubelet frees devices late and does not report it.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable

import grpc
from loguru import logger

from proto import podresources_pb2 as api
from proto.grpc_client import CLIENT_OPTIONS
from supervisor.exporter import pod_list
from supervisor.exporter.pod_list import NonsenseError
from supervisor.status.allocations import Held

EVERY = 10.0
"""Seconds between two calls."""

SLOWEST = 60.0
"""Maximum seconds between two calls while the kubelet does not answer."""

SOON = 0.2
"""Seconds to wait after an Allocate: the kubelet notes the holder after that call."""

ANSWER_WITHIN = 5.0

OPTIONS = (
    *CLIENT_OPTIONS,
    # Also of a compressed answer: gRPC stops decompressing there.
    ("grpc.max_receive_message_length", pod_list.LONGEST_LIST),
)

LIST = "/v1.PodResourcesLister/List"


class PodResources:
    """Calls the pod resources API regularly."""

    def __init__(
        self,
        socket: str,
        planned: Callable[[], frozenset[str]],
        devices: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """Call *socket*; keep only the resources in *planned*(), and GPUs such as *devices*()."""
        self._socket = socket
        self._planned, self._devices = planned, devices
        self._soon = asyncio.Event()
        self._wait = 0.0
        self._problem = ""
        self._kept: grpc.aio.Channel | None = None
        self.asked = -math.inf
        """When the kubelet was asked last, by the monotonic clock."""

    def look(self) -> None:
        """Call the API soon, because devices were allocated."""
        self._soon.set()

    async def next(self) -> Held | None:
        """Wait for the next call; return what is held, None if the kubelet does not answer."""
        await self._pause()
        try:
            found = await self._list()
        except (grpc.aio.AioRpcError, TimeoutError, NonsenseError) as error:
            self._on_failed(error)
            return None
        if self._problem:
            logger.info("reading pod resources from the kubelet again")
        self._wait, self._problem = EVERY, ""
        return found

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait):
                await self._soon.wait()
                await asyncio.sleep(SOON)  # several pods in a row need one call
        self._soon.clear()

    async def _list(self) -> Held:
        # Without a channel, gRPC closes its own descriptors, and crashes if it cannot open them
        # again. This channel is never connected.
        self._kept = self._kept or grpc.aio.insecure_channel(f"unix:{self._socket}", OPTIONS)
        # A new channel for each call: a kept channel waits after a kubelet's restart.
        async with grpc.aio.insecure_channel(f"unix:{self._socket}", OPTIONS) as channel:
            # Not the generated stub: gRPC would decode the answer in one step.
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LIST)
            request = api.ListPodResourcesRequest().SerializeToString()
            self.asked = time.monotonic()
            answer = await call(request, timeout=ANSWER_WITHIN)
        return await pod_list.read(answer, self._planned(), self._devices())

    def _on_failed(self, error: Exception) -> None:
        match error:
            case grpc.aio.AioRpcError():
                code = error.code().name
            case NonsenseError():
                code = "NONSENSE"
            case _:
                code = "TIMEOUT"
        if code != self._problem:
            logger.warning(
                "cannot read pod resources from the kubelet: holders are unknown", code=code
            )
        self._problem = code
        self._wait = min(max(1.0, 2 * self._wait), SLOWEST)
