"""A call of the stand-in kubelet whose channel is closed before it or during it."""

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
    """Ask for the options, for as long as it takes."""
    return await stub.GetDevicePluginOptions(api.Empty(), wait_for_ready=True)


def test_a_call_on_a_closed_channel_brings_nothing(tmp_path: Path) -> None:
    """It is no error of the runner: the kubelet hung up first."""

    async def late() -> api.DevicePluginOptions | None:
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody")
        await channel.close()
        return await unless_hung_up(options(DevicePluginStub(channel)))

    assert asyncio.run(late()) is None


def test_a_call_whose_channel_closes_brings_nothing(tmp_path: Path) -> None:
    """Nor is it the cancellation of the one who waits."""

    async def interrupted() -> api.DevicePluginOptions | None:
        channel = grpc.aio.insecure_channel(f"unix:{tmp_path}/nobody")
        waiting = asyncio.create_task(unless_hung_up(options(DevicePluginStub(channel))))
        await asyncio.sleep(0)  # for the call to begin
        await channel.close()
        return await waiting

    assert asyncio.run(interrupted()) is None


def test_who_is_cancelled_ends() -> None:
    """A true cancellation is passed on."""

    async def cancelled() -> None:
        waiting = asyncio.create_task(unless_hung_up(asyncio.sleep(60)))
        await asyncio.sleep(0)
        waiting.cancel()
        await waiting

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())
