"""Keeps a worker registered with the kubelet, and registers it again when that is needed."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from loguru import logger

from proto.control import until_beat
from proto.host import Identity
from proto.worker import WorkerSettings
from workers import registration
from workers.kubelet import Endpoint, KubeletError, register
from workers.servicer import Servicer


class Membership:
    """Keeps one resource registered until the worker ends."""

    def __init__(
        self,
        settings: WorkerSettings,
        endpoint: Endpoint,
        servicer: Servicer,
        on_change: Callable[[], None],
        on_settled: Callable[[bool], None],
    ) -> None:
        """Call *on_change* after each registration.

        Call *on_settled* with True when registered, with False when waiting for the kubelet, and
        only when that changes.
        """
        self.registrations = 0
        self._socket = settings.paths.kubelet_socket
        self._name = settings.endpoint
        self._resource = settings.plan.resource
        self._endpoint = endpoint
        self._servicer = servicer
        self._on_change = on_change
        self._on_settled = on_settled
        self._kubelet = 0
        """How many new kubelet sockets were reported."""
        self._registered_with: int | None = None
        self._met: Identity | None = None
        """Identity of the kubelet socket at which we registered, or are registering."""
        self._calling: asyncio.Timeout | None = None
        """The timeout of the running Register call, if there is one."""
        self._settled: bool | None = None
        self._streamed = 0.0
        self._failures = 0
        self._nudge = asyncio.Event()

    @property
    def registered(self) -> bool:
        """Whether we are registered with the newest kubelet."""
        return self._registered_with == self._kubelet

    def on_new_kubelet(self) -> None:
        """Register with the new kubelet, unless we already did because our own socket was gone."""
        if self._met is not None and Identity.of(self._socket) == self._met:
            return
        self._kubelet += 1
        self._failures = 0
        self._nudge.set()
        if self._calling:
            # The old kubelet may never answer, and its answer does not matter any more.
            self._calling.reschedule(asyncio.get_running_loop().time())
            self._calling = None

    async def keep(self) -> None:
        """Register, check every second whether to register again, and retry for ever."""
        problem = ""
        while True:
            reason = registration.why(self._standing(), time.monotonic())
            try:
                if reason:
                    await self._register(reason)
                self._failures, problem = 0, ""
                self._settle(registered=bool(self._socket))
            except KubeletError as error:
                self._failures += 1
                self._met = None
                if str(error) != problem:
                    logger.warning("cannot register with the kubelet, retrying", error=str(error))
                problem = str(error)
                self._settle(registered=False)
            next_look = until_beat(time.monotonic())
            await self._pause(registration.delay(self._failures) if self._failures else next_look)

    def _settle(self, *, registered: bool) -> None:
        if registered is not self._settled:
            self._settled = registered
            self._on_settled(registered)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._nudge.wait()
        self._nudge.clear()

    def _standing(self) -> registration.Standing:
        if self._servicer.streams:
            self._streamed = time.monotonic()
        return registration.Standing(
            registered=self.registered,
            intact=self._endpoint.intact(),
            streams=self._servicer.streams,
            streamed=self._streamed,
        )

    async def _register(self, reason: str) -> None:
        kubelet = self._kubelet  # if a newer kubelet appears meanwhile, we must register again
        if not self._endpoint.intact():
            self._registered_with = None
            self._servicer.shelf.close()  # ends the streams over the lost socket
            await self._endpoint.stop()
            self._servicer.shelf.open()
            await self._endpoint.serve()
        if self._socket:
            await self._call_kubelet()
            self.registrations += 1
            logger.info("registered with the kubelet", why=reason, endpoint=self._name)
        self._registered_with = kubelet
        self._streamed = time.monotonic()
        self._on_change()

    async def _call_kubelet(self) -> None:
        self._met = Identity.of(self._socket)
        try:
            async with asyncio.timeout(None) as self._calling:
                await register(self._socket, self._name, self._resource)
        except TimeoutError as error:
            raise KubeletError(
                f'cannot register at "{self._socket}": the kubelet restarted during the call'
            ) from error
        finally:
            self._calling = None
