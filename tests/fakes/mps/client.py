"""A stand-in for a CUDA program under MPS, in place of tests/hardware/mps_client.py.

Run it as `python -S -m tests.fakes.mps.client`. It holds its connection to the server, as a real
client does, and prints the CUDA errors that the server tells it.
"""

import json
import os
import select
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from simulator.mps import texts
from tests.fakes.mps import client_options

SERVER_GONE, OUT_OF_MEMORY = 806, 2
"""CUDA errors."""

TOTAL, MULTIPROCESSORS = 81559, 132
"""Of an H100."""


class CudaError(Exception):
    """A call of the CUDA driver API failed."""


class Client:
    """A connection to the server."""

    def __init__(self, pipe: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as trial:
            trial.connect(f"{pipe}/control")  # a real one does so: the daemon logs it
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(f"{pipe}/control")
        self._connection.send(b"client")
        self.share = self.answer("cuInit")

    def answer(
        self, call: str, deadline: float | None = None, others: Sequence[int] = ()
    ) -> dict[str, Any]:
        """Return what the server says; CudaError for an error.

        Return nothing at the deadline, or when there is something to read in the *others*.
        """
        patience = None if deadline is None else max(deadline - time.monotonic(), 0)
        readable = select.select([self._connection.fileno(), *others], [], [], patience)[0]
        if self._connection.fileno() not in readable:
            return {}
        message = self._connection.recv(1 << 16)
        said: dict[str, Any] = json.loads(message) if message else {"error": SERVER_GONE}
        if "error" in said:
            raise CudaError(f"cannot call {call}: CUDA error {said['error']}")
        return said

    def fault(self) -> None:
        """Write to an address that nothing is mapped at."""
        self._connection.send(b"fault")
        self.answer("cuCtxSynchronize")

    def free(self) -> int:
        """Return the MiB that this process may use."""
        limits: list[int] = [self.share["limit"]]
        device, _, own = os.environ.get("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "").partition("=")
        if own and device not in ("0", self.share["gpu"]):
            return (
                TOTAL  # a limit for a GPU that is not there drops all others, NVIDIA's Dynamo saw
            )
        limits += [texts.mebibytes(own)] if own else []
        return min([TOTAL, *filter(None, limits)])

    def allocate(self, mebibytes: int) -> None:
        """Allocate memory, as far as the limits go."""
        if mebibytes > self.free():
            raise CudaError(f"cannot call cuMemAlloc_v2: CUDA error {OUT_OF_MEMORY}")

    def multiprocessors(self) -> int:
        """Return how many multiprocessors this process may use: an even number."""
        own = os.environ.get("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "100")
        percentage = min(float(self.share["percentage"]), float(own))
        return max(int(MULTIPROCESSORS * percentage / 100) // 2 * 2, 2)


def main() -> int:
    """Do what the command line says."""
    given = client_options.parsed(__doc__)
    pipe = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
    try:
        client = Client(pipe)
        client.allocate(given.memory)
        print(f"busy multiprocessors={client.multiprocessors()}", flush=True)  # noqa: T201
        if given.fault:
            sys.stdin.readline()
            client.fault()
        client.answer("cuCtxSynchronize", time.monotonic() + given.seconds, [sys.stdin.fileno()])
    except (CudaError, OSError) as error:
        print(error, flush=True)  # noqa: T201
        if given.stay:
            sys.stdin.read()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
