"""How a worker stands with the kubelet: it registers, and again whenever something calls for it."""

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
    """The registration of one resource, kept for ever."""

    def __init__(
        self,
        settings: WorkerSettings,
        endpoint: Endpoint,
        servicer: Servicer,
        on_change: Callable[[], None],
        on_settled: Callable[[bool], None],
    ) -> None:
        """Call *on_change* after each registration, *on_settled* when it is there or is waited for.

        What is settled is told once until it changes.
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
        """How many kubelets we were told of."""
        self._registered_with: int | None = None
        self._met: Identity | None = None
        """The socket of the kubelet with which we are registered, or register just now."""
        self._calling: asyncio.Timeout | None = None
        """Ends the call that registers, while there is one."""
        self._settled: bool | None = None
        self._streamed = 0.0
        self._failures = 0
        self._nudge = asyncio.Event()

    @property
    def registered(self) -> bool:
        """Whether the newest kubelet knows us."""
        return self._registered_with == self._kubelet

    def on_new_kubelet(self) -> None:
        """Register with it, unless the loss of our own socket has already led us there."""
        if self._met is not None and Identity.of(self._socket) == self._met:
            return
        self._kubelet += 1
        self._failures = 0
        self._nudge.set()
        if self._calling:
            # The kubelet that was called may never answer; it is not the one that counts any more.
            self._calling.reschedule(asyncio.get_running_loop().time())
            self._calling = None

    async def keep(self) -> None:
        """Register, and look every second whether that still holds; retry for ever."""
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
                    logger.warning("not registered, retrying", error=str(error))
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
        kubelet = self._kubelet  # a newer one that we hear of meanwhile must be told as well
        if not self._endpoint.intact():
            self._registered_with = None
            self._servicer.shelf.close()  # streams over a socket that nobody can find any more
            await self._endpoint.stop()
            self._servicer.shelf.open()
            await self._endpoint.serve()
        if self._socket:
            await self._call_kubelet()
            self.registrations += 1
            logger.info("registered", why=reason, endpoint=self._name)
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
                f'cannot register at "{self._socket}": a newer kubelet came'
            ) from error
        finally:
            self._calling = None
