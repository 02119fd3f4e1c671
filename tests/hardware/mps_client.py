"""A CUDA program for checks of MPS: it holds memory, keeps the GPU busy, and can fault.

It needs only libcuda.so.1: `python -m tests.hardware.mps_client --help`. It prints `busy` when it
has its memory, and each CUDA error. It ends when its stdin is closed.
"""

import ctypes
import select
import sys
import time

from tests.fakes.mps import client_options
from tests.hardware.cuda import MANY_BLOCKS, ONE_KERNEL, Cuda, CudaError

MULTIPROCESSOR_COUNT = 16
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT."""


def multiprocessors(cuda: Cuda) -> int:
    """Return how many multiprocessors this process may use."""
    device, number = ctypes.c_int(), ctypes.c_int()
    cuda.call("cuDeviceGet", ctypes.byref(device), 0)
    cuda.call("cuDeviceGetAttribute", ctypes.byref(number), MULTIPROCESSOR_COUNT, device)
    return number.value


def main() -> int:
    """Do what the command line says."""
    given = client_options.parsed(__doc__)
    try:
        cuda = Cuda(0)
        cuda.allocate(given.memory)
        print(f"busy multiprocessors={multiprocessors(cuda)}", flush=True)  # noqa: T201
        if given.fault:
            sys.stdin.readline()
            cuda.run(b"fault", 1)
        end = time.monotonic() + given.seconds
        while time.monotonic() < end and not select.select([sys.stdin], [], [], 0)[0]:
            cuda.run(b"spin", MANY_BLOCKS, ONE_KERNEL)
    except (CudaError, OSError) as error:
        print(error, flush=True)  # noqa: T201
        if given.stay:
            sys.stdin.read()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
