"""A call over a new channel never waits for an older channel to the same path."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

import grpc
import pytest

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import RegistrationStub
from proto.grpc_client import CLIENT_OPTIONS
from simulator.kubelet import Kubelet
from supervisor.exporter.pod_resources import PodResources
from supervisor.status.allocations import Held
from tests.fakes.service import PATIENCE, kubelet
from workers.kubelet import SERVICE, register

GPU = "nvidia.com/gpu"


@contextlib.asynccontextmanager
async def unanswered(path: Path, call: Coroutine[None, None, object]) -> AsyncIterator[None]:
    """Begin a *call* of a kubelet that listens on *path*, accepts connections and never answers."""
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(path))
        deaf.listen(8)
        deaf.setblocking(False)
        task = asyncio.create_task(call)
        accept = asyncio.get_running_loop().sock_accept(deaf)
        connection, _ = await asyncio.wait_for(accept, PATIENCE)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            connection.close()


def plugin(device: str) -> grpc.GenericRpcHandler:
    """Return a device plugin with one device."""

    async def options(request: bytes, context: object) -> bytes:
        del request, context
        return b""

    async def lists(request: bytes, context: object) -> AsyncIterator[bytes]:
        del request, context
        devices = [api.Device(ID=device, health="Healthy")]
        yield api.ListAndWatchResponse(devices=devices).SerializeToString()
        await asyncio.Event().wait()

    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(options),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(lists),
        },
    )


@contextlib.asynccontextmanager
async def worker(folder: Path, device: str, node: Kubelet) -> AsyncIterator[None]:
    """Serve a plugin in place of an earlier one, and register it with a kubelet."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((plugin(device),))
    made = folder / f"kubelet/{device}.new"
    server.add_insecure_port(f"unix:{made}")
    await server.start()
    made.replace(folder / "kubelet/gpu.sock")
    try:
        await register(str(node.socket), "gpu.sock", GPU)
        yield
    finally:
        await server.stop(None)


def test_a_registration_does_not_wait_for_the_old_kubelet(folder: Path) -> None:
    """A worker registers with the new kubelet while gRPC still waits for the old kubelet."""

    async def story() -> None:
        path = folder / "kubelet/kubelet.sock"
        path.parent.mkdir()
        async with (
            unanswered(path, register(str(path), "gpu.sock", GPU)),
            kubelet(folder) as node,
            worker(folder, "a", node),
        ):
            await node.until(lambda k: k.healthy(GPU) == 1)

    asyncio.run(story())


def test_a_registration_does_not_wait_after_a_failed_one(folder: Path) -> None:
    """A worker registers at once although an older channel failed and waits before it retries."""

    async def story() -> None:
        path = folder / "kubelet/kubelet.sock"
        path.parent.mkdir()
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))  # without listen(): connections are refused
        async with grpc.aio.insecure_channel(f"unix:{path}", CLIENT_OPTIONS) as failed:
            with pytest.raises(grpc.aio.AioRpcError, match="refused"):
                await RegistrationStub(failed).Register(api.RegisterRequest())
            async with kubelet(folder) as node, worker(folder, "a", node):
                await node.until(lambda k: k.healthy(GPU) == 1)

    asyncio.run(story())


def test_pod_resources_are_read_from_the_new_kubelet(folder: Path) -> None:
    """The exporter reads pod resources from the new kubelet while gRPC still waits for the old
    kubelet.
    """

    async def story() -> None:
        path = folder / "pod-resources.sock"
        first, second = (PodResources(str(path), lambda: frozenset({GPU})) for _ in range(2))
        async with unanswered(path, first.next()):
            path.unlink()
            async with kubelet(folder):
                assert await second.next() == Held()

    asyncio.run(story())


def test_the_stand_in_kubelet_connects_to_the_plugin_that_registers(folder: Path) -> None:
    """The stand-in kubelet reads the list of the plugin that serves the path now, as a real kubelet
    does, although it is still connected to the plugin that served the path before.
    """

    async def story() -> None:
        async with kubelet(folder) as node, worker(folder, "old", node):
            await node.until(lambda k: k.healthy(GPU) == 1)
            async with worker(folder, "new", node):
                await node.until(lambda k: "new" in k.resources[GPU].devices)

    asyncio.run(story())
