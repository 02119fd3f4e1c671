"""Sockets of other processes in the kubelet's folder stay where they are."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import DevicePluginStub
from proto.worker import Handout
from supervisor.runtime_folder import remove_dead_sockets
from tests.fakes.service import service
from workers.devices import View
from workers.kubelet import Endpoint, KubeletError
from workers.listing import Shelf
from workers.servicer import Servicer

NAME = "nvidia-gpu.sock"


@contextlib.contextmanager
def listener(path: Path, kind: socket.SocketKind = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    """Serve on *path*, as another device plugin does; leave the file behind."""
    with socket.socket(socket.AF_UNIX, kind) as served:
        served.bind(str(path))
        served.listen(0)
        yield served


def rename(source: str, target: Path) -> None:
    """Replace *target* by *source*, as a worker puts its socket in place."""
    Path(source).replace(target)


def fill(stack: contextlib.ExitStack, path: Path) -> None:
    """Connect to *path* until its queue is full, because its owner accepts nobody."""
    for _ in range(10):
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.setblocking(False)
        try:
            client.connect(str(path))
        except BlockingIOError:
            return
    raise AssertionError("the queue never fills")


@pytest.fixture
def path(folder: Path) -> Path:
    """Return the path of a plugin's socket."""
    return folder / NAME


def test_a_socket_that_no_process_serves_is_removed(path: Path) -> None:
    """At its end, the service removes the sockets of workers that were killed."""
    with listener(path):
        pass
    remove_dead_sockets(path.parent)
    assert not path.exists()


def test_a_busy_strangers_socket_is_not_removed(path: Path) -> None:
    """A process that is too busy to accept a connection still owns its socket."""
    with listener(path), contextlib.ExitStack() as stack:
        fill(stack, path)
        remove_dead_sockets(path.parent)
        assert path.exists()


def test_a_strangers_socket_of_another_kind_is_not_removed(path: Path) -> None:
    """A socket that refuses our kind of connection has an owner all the same."""
    with listener(path, socket.SOCK_SEQPACKET):
        remove_dead_sockets(path.parent)
        assert path.exists()


def test_a_file_that_is_no_socket_is_not_removed(path: Path) -> None:
    """A file that happens to have such a name is not ours."""
    path.write_text("")
    remove_dead_sockets(path.parent)
    assert path.exists()


def plugin(path: Path) -> Endpoint:
    """Return a worker's endpoint; its open streams delay the end of its server."""
    shelf = Shelf(View("nvidia.com/gpu", {}, {}))
    return Endpoint(str(path), Servicer(shelf, Handout(), lambda: None))


def test_a_stopping_worker_leaves_its_successors_socket(path: Path) -> None:
    """A socket that appears while the worker's server stops is not the worker's."""

    async def story() -> None:
        endpoint = plugin(path)
        await endpoint.serve()
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            await DevicePluginStub(channel).ListAndWatch(api.Empty()).read()
            stopping = asyncio.create_task(endpoint.stop())
            await asyncio.sleep(0)  # the server now waits for the end of the stream
            with listener(path.with_suffix(".next")) as successor:
                rename(successor.getsockname(), path)
                await stopping

    asyncio.run(story())
    assert path.exists()


def test_a_stopping_worker_removes_its_own_socket(path: Path) -> None:
    """Without a successor, no socket is left."""

    async def story() -> None:
        endpoint = plugin(path)
        await endpoint.serve()
        await endpoint.stop()

    asyncio.run(story())
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_worker_does_not_replace_a_strangers_socket(path: Path, kind: socket.SocketKind) -> None:
    """A worker refuses to serve where another process serves, and leaves nothing behind."""

    async def story() -> None:
        endpoint = plugin(path)
        with listener(path, kind), contextlib.ExitStack() as stack:
            if kind is socket.SOCK_STREAM:
                fill(stack, path)
            with pytest.raises(KubeletError, match="another process serves this socket"):
                await endpoint.serve()

    asyncio.run(story())
    assert [*path.parent.iterdir()] == [path]


def test_a_worker_that_a_real_time_signal_ends_is_restarted(folder: Path) -> None:
    """The supervisor names the signal's number, and starts a new worker."""

    async def story() -> None:
        async with service(folder, node={"gpus": [{}]}) as running:
            await running.logged("the device list for the kubelet is ready")
            before = len(running.entries)
            os.kill(running.pids()["worker nvidia.com/gpu"], 35)
            await running.logged("process ended, restarting it", how="killed by signal 35")
            await running.logged("the device list for the kubelet is ready", after=before)
            assert await running.stop() == 0

    asyncio.run(story())
