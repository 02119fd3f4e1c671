"""Calls of the stand-in kubelet, which hangs up on a plugin when one of its streams has ended."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import grpc

Answer = TypeVar("Answer")


async def unless_hung_up(call: Coroutine[None, None, Answer]) -> Answer | None:
    """Return what the call brings, or None where the kubelet's channel was closed or closes."""
    try:
        return await call
    except grpc.aio.UsageError:
        return None
    except asyncio.CancelledError:  # as calls end whose channel is closed
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        return None
