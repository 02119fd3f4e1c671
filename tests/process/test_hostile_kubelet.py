"""A hostile client calls a worker: it is answered or refused, with little time and memory."""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import DevicePluginStub
from tests.fakes.figures import FIGURES
from tests.fakes.service import PATIENCE, Service, kubelet, service

GPU = "nvidia.com/gpu"
NODE: dict[str, object] = {"gpus": [{}, {}]}

MOST_MEMORY = 200 << 10
"""KiB that a worker may use at its peak: several times what it needs."""

MANY_CONTAINERS = (
    api.AllocateRequest(container_requests=[api.ContainerAllocateRequest()]).SerializeToString()
    * 1_000_000
)
"""A request with a million empty containers; the bytes are valid for both calls."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A worker under attack, a channel to it, and one of its devices."""

    running: Service
    pid: int
    path: str
    channel: grpc.aio.Channel
    device: str

    def memory(self) -> int:
        """Return the worker's peak memory in KiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

    async def allocate(self, *containers: Sequence[str]) -> api.AllocateResponse:
        """Allocate the given devices for each container."""
        requests = [api.ContainerAllocateRequest(devices_ids=ids) for ids in containers]
        stub = DevicePluginStub(self.channel)
        return await stub.Allocate(
            api.AllocateRequest(container_requests=requests), timeout=PATIENCE
        )

    async def prefer(self, *containers: tuple[Sequence[str], int]) -> list[list[str]]:
        """Ask for a preferred allocation for each container, of the available devices."""
        requests = [
            api.ContainerPreferredAllocationRequest(available_deviceIDs=ids, allocation_size=size)
            for ids, size in containers
        ]
        stub = DevicePluginStub(self.channel)
        request = api.PreferredAllocationRequest(container_requests=requests)
        answer = await stub.GetPreferredAllocation(request, timeout=PATIENCE)
        return [list(container.deviceIDs) for container in answer.container_responses]

    async def send(self, method: str, data: bytes) -> None:
        """Call a method with arbitrary bytes."""
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = self.channel.unary_unary(method)
        await call(data, timeout=PATIENCE)

    async def raw(self, method: str, data: bytes) -> grpc.StatusCode:
        """Call a method with arbitrary bytes and return the status code."""
        try:
            await self.send(method, data)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async def is_well(self) -> None:
        """Require that the same worker still answers and has logged nothing unexpected."""
        assert len((await self.allocate([self.device])).container_responses) == 1
        assert self.running.pids()[f"worker {GPU}"] == self.pid
        noise = [e["message"] for e in self.running.entries if "time" not in e]
        assert not noise


@contextlib.asynccontextmanager
async def victim(folder: Path) -> AsyncIterator[Victim]:
    """Run a service and connect to its worker."""
    async with kubelet(folder) as node, service(folder, node=NODE) as running:
        await node.until(lambda k: k.healthy(GPU) == 2)
        path = f"{folder}/kubelet/nvidia-gpu.sock"
        options = (("grpc.default_authority", "localhost"),)
        async with grpc.aio.insecure_channel(f"unix:{path}", options) as channel:
            device = next(iter(node.resources[GPU].devices))
            yield Victim(running, running.pids()[f"worker {GPU}"], path, channel, device)


def test_huge_requests_are_answered_or_refused(folder: Path) -> None:
    """Very many ids, a million containers or a huge id are answered or refused in little memory."""

    async def story() -> None:
        async with victim(folder) as worker:
            many = [f"GPU-{number:036d}" for number in range(95_000)]
            began = time.monotonic()

            assert len((await worker.allocate([worker.device] * 90_000)).container_responses) == 1
            assert await worker.prefer((many, 5)) == [[]]
            for ids in (many, many * 3, ["x" * 3_000_000]):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await worker.allocate(ids)
                assert len(refused.value.details() or "") < 400
            for method in ("Allocate", "GetPreferredAllocation"):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await worker.send(f"/v1beta1.DevicePlugin/{method}", MANY_CONTAINERS)
                assert len(refused.value.details() or "") < 400
            await worker.is_well()

            took, held = time.monotonic() - began, worker.memory()
            FIGURES.append(f"huge requests: {took:.1f} s, the worker held {held >> 10} MiB at most")
            assert held < MOST_MEMORY

    asyncio.run(story())


def test_odd_requests_are_answered_or_refused(folder: Path) -> None:
    """Wrong methods, random bytes, unknown fields and negative sizes each get an answer or an
    error.
    """

    async def story() -> None:
        async with victim(folder) as worker:
            api_name, code = "/v1beta1.DevicePlugin", grpc.StatusCode
            expected = {
                (f"{api_name}/Nope", b""): code.UNIMPLEMENTED,
                ("/../../etc/passwd", b"x"): code.UNIMPLEMENTED,
                (f"{api_name}/Allocate", b""): code.OK,
                (f"{api_name}/Allocate", b"\xff" * 1000): code.UNKNOWN,
                (f"{api_name}/ListAndWatch", b"\xff"): code.UNKNOWN,
                (f"{api_name}/Allocate", b"\xfa\x3e\x03abc"): code.OK,
                (f"{api_name}/GetPreferredAllocation", b""): code.OK,
            }
            assert {key: await worker.raw(*key) for key in expected} == expected
            for size in (-1, -(2**31), 0):
                assert await worker.prefer(([worker.device], size)) == [[]]
            assert await worker.prefer(([worker.device, "x"], 2**31 - 1)) == [[worker.device]]
            for name in ("", "a\nb\x00\x1b[31m\u2028", "../../x", f"{worker.device}\0"):
                with pytest.raises(grpc.aio.AioRpcError, match="has no device with this ID"):
                    await worker.allocate([name])
            await worker.is_well()

    asyncio.run(story())


def test_many_slow_clients_block_no_other_call(folder: Path) -> None:
    """Hundreds of connections that send nothing or garbage, and hundreds of streams that nobody
    reads, do not block other calls.
    """

    async def story() -> None:
        async with victim(folder) as worker, contextlib.AsyncExitStack() as stack:
            head = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            for number in range(300):
                end = stack.enter_context(socket.socket(socket.AF_UNIX))
                end.settimeout(PATIENCE)
                await asyncio.to_thread(end.connect, worker.path)
                with contextlib.suppress(OSError):
                    end.send(head[: number % 25] + (os.urandom(40) if number % 2 else b""))
            streams = [
                DevicePluginStub(worker.channel).ListAndWatch(api.Empty()) for _ in range(500)
            ]
            for stream in streams[:20]:
                assert isinstance(await stream.read(), api.ListAndWatchResponse)
            await worker.is_well()
            for stream in streams:
                stream.cancel()
            assert worker.memory() < MOST_MEMORY

    asyncio.run(story())
