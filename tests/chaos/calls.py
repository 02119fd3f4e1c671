"""Calls of the stand-in kubelet, which closes a plugin's channel when one of its streams ends."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import grpc

Answer = TypeVar("Answer")


async def unless_hung_up(call: Coroutine[None, None, Answer]) -> Answer | None:
    """Return the answer of a call, or None if the kubelet's channel was closed meanwhile."""
    try:
        return await call
    except grpc.aio.UsageError:
        return None
    except asyncio.CancelledError:  # gRPC cancels calls when their channel closes
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        return None
