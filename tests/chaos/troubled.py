"""A stand-in kubelet of any version that can misbehave towards plugins."""

import asyncio
import socket
from pathlib import Path
from random import Random
from typing import Any

import grpc

from proto import deviceplugin_pb2 as api
from simulator.kubelet import Kubelet
from simulator.kubelet_habits import VERSIONS


class TroubledKubelet(Kubelet):
    """The stand-in kubelet with faults that can be switched on; by default it has none."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.up = False
        self._versions = Random(seed)  # noqa: S311 - reproducible, not secret
        self.slow = 0.0
        """Additional seconds that each registration takes."""
        self.refuses = False
        self.dies_registering = False
        """Whether it restarts during the next registration."""
        self._deaf: socket.socket | None = None
        self._restart: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; plugins that tried to connect before are still waiting."""
        self.socket.unlink(missing_ok=True)
        self.habits = self._versions.choice(list(VERSIONS.values()))
        await super().start()
        self.up = True

    async def stop(self) -> None:
        """Stop."""
        self.up = False
        await super().stop()

    async def hang(self) -> None:
        """Accept connections and answer no call."""
        await self.stop()
        self.socket.unlink(missing_ok=True)
        if self._deaf:
            self._deaf.close()
        self._deaf = socket.socket(socket.AF_UNIX)
        self._deaf.bind(str(self.socket))
        self._deaf.listen(8)

    async def Register(self, request: api.RegisterRequest, context: Any) -> api.Empty:
        """Register a plugin, with the faults that are switched on."""
        if self.dies_registering:
            self.dies_registering = False
            self._restart = asyncio.create_task(self._die_and_return())
            await asyncio.sleep(1)
        if self.refuses:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        await asyncio.sleep(self.slow)
        return await super().Register(request, context)

    async def _die_and_return(self) -> None:
        await self.stop()
        await self.start()

    async def close(self) -> None:
        """Stop and close everything."""
        if self._restart:
            await asyncio.gather(self._restart, return_exceptions=True)
        if self._deaf:
            self._deaf.close()
        await self.stop()
