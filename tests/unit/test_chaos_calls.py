"""Calls of the stand-in kubelet when their gRPC channel is closed."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest

from proto import deviceplugin_pb2 as api
from proto.deviceplugin_pb2_grpc import DevicePluginStub
from tests.chaos.calls import unless_hung_up

if TYPE_CHECKING:
    from proto.deviceplugin_pb2_grpc import DevicePluginAsyncStub


async def options(stub: "DevicePluginAsyncStub") -> api.DevicePluginOptions:
    """Call GetDevicePluginOptions; wait without limit for a server."""
    return await stub.GetDevicePluginOptions(api.Empty(), wait_for_ready=True)


def test_a_call_on_a_closed_channel_returns_none(tmp_path: Path) -> None:
    """A call on a channel that is already closed returns None and raises nothing."""

    async def late() -> api.DevicePluginOptions | None:
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody")
        await channel.close()
        return await unless_hung_up(options(DevicePluginStub(channel)))

    assert asyncio.run(late()) is None


def test_a_call_whose_channel_closes_returns_none(tmp_path: Path) -> None:
    """A call whose channel closes meanwhile returns None and does not cancel the caller."""

    async def interrupted() -> api.DevicePluginOptions | None:
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody")
        waiting = asyncio.create_task(unless_hung_up(options(DevicePluginStub(channel))))
        await asyncio.sleep(0)  # let the call start
        await channel.close()
        return await waiting

    assert asyncio.run(interrupted()) is None


def test_a_cancelled_caller_stays_cancelled() -> None:
    """Cancelling the caller raises CancelledError."""

    async def cancelled() -> None:
        waiting = asyncio.create_task(unless_hung_up(asyncio.sleep(60)))
        await asyncio.sleep(0)
        waiting.cancel()
        await waiting

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
