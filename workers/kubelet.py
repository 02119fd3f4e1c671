"""The worker's side of the kubelet's folder: its own socket there, and the call to register it."""

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

import grpc

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import (
    DevicePluginServicer,
    DevicePluginStub,
    RegistrationStub,
    add_DevicePluginServicer_to_server,
)
from proto.host import Identity

VERSION = "v1beta1"
"""Of the device plugin API."""

SERVICE = f"{VERSION}.DevicePlugin"

GRACE = 0.5
"""Seconds in which open streams may take in their last message."""

TIMEOUT = 5.0
"""Seconds until a call to the kubelet counts as failed."""

CLIENT_OPTIONS: Sequence[tuple[str, object]] = (
    # By default the authority is the socket's path, percent-encoded: strict servers refuse that.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
)


class KubeletError(Exception):
    """The kubelet, or its folder, is not as we need it; the message says what is missing."""


class Endpoint:
    """A gRPC server on a socket in the kubelet's folder."""

    def __init__(self, path: str, servicer: DevicePluginServicer) -> None:
        self._path = path
        self._servicer = servicer
        self._server: grpc.aio.Server | None = None
        self.answering = True
        """What the last check found."""
        self._wanted = False
        """Whether it was to be served, with or without success."""
        self._identity: Identity | None = None

    def intact(self) -> bool:
        """Return whether the socket is still there and ours."""
        return self._identity is not None and Identity.of(self._path) == self._identity

    async def serve(self) -> None:
        """Serve on a new socket; raise KubeletError where that is not possible."""
        self._wanted = True
        require_free(self._path)
        self._server = server = grpc.aio.server()
        add_DevicePluginServicer_to_server(self._servicer, server)
        server.add_registered_method_handlers(SERVICE, {"ListAndWatch": _of_bytes(self._servicer)})
        # gRPC removes the path that it was given when a server ends, whoever has that by then.
        made = _while_it_is_made(self._path)
        try:
            server.add_insecure_port(f"unix:{made}")
            made.replace(self._path)
        except (RuntimeError, OSError) as error:
            await self.stop()
            why = error.strerror if isinstance(error, OSError) else _why_not(str(made))
            raise KubeletError(f'cannot listen on "{self._path}": {why}') from error
        self._identity = Identity.of(self._path)
        await server.start()

    async def check(self) -> None:
        """Find out whether a call on our own socket is answered, as it is for the kubelet."""
        self.answering = await self._answers()

    async def _answers(self) -> bool:
        if self._server is None:
            return not self._wanted  # before it is to be served there is nothing to call
        async with grpc.aio.insecure_channel(f"unix:{self._path}", CLIENT_OPTIONS) as channel:
            try:
                await DevicePluginStub(channel).GetDevicePluginOptions(api.Empty(), timeout=TIMEOUT)
            except grpc.aio.AioRpcError:
                return False
        return True

    async def stop(self) -> None:
        """Stop serving and remove the socket; streams that do not end in time are cut off."""
        if self._server is None:
            return
        ours = self.intact()
        server, self._server, self._identity = self._server, None, None
        await server.stop(GRACE)
        if ours:
            _remove(self._path)


def _of_bytes(servicer: DevicePluginServicer) -> "grpc.RpcMethodHandler[api.Empty, bytes]":
    """Return a handler, in place of the generated one, of lists that are encoded already."""
    return grpc.unary_stream_rpc_method_handler(
        servicer.ListAndWatch, request_deserializer=api.Empty.FromString
    )


def _while_it_is_made(path: str) -> Path:
    """Return where the socket is until it takes the place of whatever is at *path*; as short."""
    made = Path(path).with_suffix(".new")
    _remove(str(made))  # a crash may have left it, and a plain file would be in the way
    return made


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        Path(path).unlink()


def require_free(path: str) -> None:
    """Raise KubeletError if somebody serves on *path*: we would silently take the place away."""
    try:
        probe = socket.socket(socket.AF_UNIX)
    except OSError as error:  # no descriptor is left
        raise KubeletError(f'cannot listen on "{path}": {error.strerror}') from error
    with probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            pass  # its queue is full, so there is somebody
        except OSError:
            return
    raise KubeletError(
        f'cannot listen on "{path}": another process does; is a second plugin running?'
    )


def _why_not(path: str) -> str:
    """Return why no socket can be made at *path*, which gRPC does not tell."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(path)
    except OSError as error:
        return error.strerror or str(error)
    Path(path).unlink(missing_ok=True)
    return "gRPC refused it"


async def register(kubelet_socket: str, endpoint: str, resource: str) -> None:
    """Tell the kubelet of *resource* at *endpoint*; KubeletError if it fails."""
    request = api.RegisterRequest(
        version=VERSION,
        endpoint=endpoint,
        resource_name=resource,
        options=api.DevicePluginOptions(get_preferred_allocation_available=True),
    )
    if Identity.of(kubelet_socket) is None:
        raise KubeletError(
            f'cannot register at "{kubelet_socket}": no such socket; is the kubelet up?'
        )
    # A channel that failed before would wait a second or more before it tries again.
    async with grpc.aio.insecure_channel(f"unix:{kubelet_socket}", CLIENT_OPTIONS) as channel:
        try:
            await RegistrationStub(channel).Register(request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise KubeletError(
                f'cannot register at "{kubelet_socket}": {error.details()}'
            ) from error
