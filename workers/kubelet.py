"""The worker's own socket in the kubelet's folder, and the call that registers it."""

import contextlib
import socket
from pathlib import Path

import grpc

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import (
    DevicePluginServicer,
    DevicePluginStub,
    RegistrationStub,
    add_DevicePluginServicer_to_server,
)
from proto.folder import Folder
from proto.grpc_client import CLIENT_OPTIONS
from proto.host import Identity, is_served

VERSION = "v1beta1"
"""Version of the device plugin API."""

SERVICE = f"{VERSION}.DevicePlugin"

GRACE = 0.5
"""Seconds that open streams have to send their last message."""

TIMEOUT = 5.0
"""Seconds until a call to the kubelet fails."""


class KubeletError(Exception):
    """Registering or serving failed; the message is one line that begins with "cannot"."""


class Endpoint:
    """A gRPC server on a socket in the kubelet's folder."""

    def __init__(self, path: str, servicer: DevicePluginServicer) -> None:
        self._path = path
        self._name = Path(path).name
        self._servicer = servicer
        self._server: grpc.aio.Server | None = None
        self._folder: Folder | None = None
        self.answering = True
        """Whether the last self-check got an answer."""
        self._wanted = False
        """Whether `serve` was called, even if it failed."""
        self._identity: Identity | None = None

    def intact(self) -> bool:
        """Return whether the socket still exists and is ours."""
        return self._identity is not None and Identity.of(self._path) == self._identity

    async def serve(self) -> None:
        """Serve on a new socket; raise KubeletError if that fails."""
        self._wanted = True
        require_free(self._path)
        folder = self._opened()
        self._server = server = grpc.aio.server()
        add_DevicePluginServicer_to_server(self._servicer, server)
        server.add_registered_method_handlers(SERVICE, {"ListAndWatch": _of_bytes(self._servicer)})
        # A stopping server deletes the path it was given, even if another process owns it by then.
        made = Path(self._name).with_suffix(".new").name  # not longer than the final name
        _remove(folder, made)  # a crash may have left a file there, which would block the bind
        try:
            server.add_insecure_port(f"unix:{folder.at(made)}")
            require_free(self._path)  # again: the rename replaces any file
            folder.rename(made, self._name)
        except KubeletError:
            _remove(folder, made)
            await self.stop()
            raise
        except (RuntimeError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else _why_not(folder, made)
            await self.stop()
            raise KubeletError(f'cannot listen on "{self._path}": {why}') from error
        self._identity = Identity.of(self._path)
        await server.start()

    def _opened(self) -> Folder:
        """Return the kubelet's folder, open as long as the server runs; KubeletError if unsafe."""
        try:
            self._folder = folder = Folder.existing(Path(self._path).parent)
        except OSError as error:
            raise KubeletError(f'cannot listen on "{self._path}": {error.strerror}') from error
        return folder

    async def check(self) -> None:
        """Call our own socket as the kubelet does, and note whether it answers."""
        self.answering = await self._answers()

    async def _answers(self) -> bool:
        if self._server is None:
            return not self._wanted  # not served yet: nothing to call
        async with grpc.aio.insecure_channel(f"unix:{self._path}", CLIENT_OPTIONS) as channel:
            try:
                await DevicePluginStub(channel).GetDevicePluginOptions(api.Empty(), timeout=TIMEOUT)
            except grpc.aio.AioRpcError:
                return False
        return True

    async def stop(self) -> None:
        """Stop serving and remove the socket; cancel the streams that do not end in time."""
        if self._server is None:
            return
        server, self._server = self._server, None
        folder, self._folder = self._folder, None
        await server.stop(GRACE)
        # Judged only now: a successor may have put its own socket there meanwhile.
        if folder:
            if self.intact():
                _remove(folder, self._name)
            folder.close()
        self._identity = None


def _of_bytes(servicer: DevicePluginServicer) -> "grpc.RpcMethodHandler[api.Empty, bytes]":
    """Return a handler for lists that are already encoded; it replaces the generated handler."""
    return grpc.unary_stream_rpc_method_handler(
        servicer.ListAndWatch, request_deserializer=api.Empty.FromString
    )


def _remove(folder: Folder, name: str) -> None:
    with contextlib.suppress(OSError):
        folder.remove(name)


def require_free(path: str) -> None:
    """Raise KubeletError if a process serves on *path*: we would silently replace its socket."""
    try:
        served = is_served(path)
    except OSError as error:  # no file descriptor is left
        raise KubeletError(f'cannot listen on "{path}": {error.strerror}') from error
    if served:
        raise KubeletError(
            f'cannot listen on "{path}": another process serves this socket; '
            "stop the other device plugin"
        )


def _why_not(folder: Folder, name: str) -> str:
    """Return why no socket can be bound as *name* in *folder*; gRPC does not say it."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(folder.at(name))
    except OSError as error:
        return error.strerror or str(error)
    _remove(folder, name)
    return "gRPC cannot bind this path"


async def register(kubelet_socket: str, endpoint: str, resource: str) -> None:
    """Register *resource*, served at *endpoint*, with the kubelet; KubeletError if it fails."""
    request = api.RegisterRequest(
        version=VERSION,
        endpoint=endpoint,
        resource_name=resource,
        options=api.DevicePluginOptions(get_preferred_allocation_available=True),
    )
    if Identity.of(kubelet_socket) is None:
        raise KubeletError(
            f'cannot register at "{kubelet_socket}": no such socket; is the kubelet running?'
        )
    # A new channel for each call: a channel that failed waits a second or more before it retries.
    # CLIENT_OPTIONS keep gRPC from sharing that wait with the new channel.
    async with grpc.aio.insecure_channel(f"unix:{kubelet_socket}", CLIENT_OPTIONS) as channel:
        try:
            await RegistrationStub(channel).Register(request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            why = _one_line(error.details() or error.code().name)
            raise KubeletError(f'cannot register at "{kubelet_socket}": {why}') from error


def _one_line(details: str) -> str:
    """Return gRPC's *details* as one line; without descriptors, they contain a raw address."""
    return " ".join("".join(c if c.isprintable() else " " for c in details).split())
