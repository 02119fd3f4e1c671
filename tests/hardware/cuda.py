"""A small CUDA program: it holds memory of a GPU and keeps it busy, or causes an Xid 31.

It needs only libcuda.so.1, which comes with the driver: `python -m tests.hardware.cuda --help`.
"""

import argparse
import ctypes
import sys
import time

PTX = b"""
.version 7.0
.target sm_60
.address_size 64
.visible .entry spin(.param .u64 nanoseconds)
{
    .reg .u64 %r<4>;
    .reg .pred %p;
    ld.param.u64 %r0, [nanoseconds];
    mov.u64 %r1, %globaltimer;
again:
    mov.u64 %r2, %globaltimer;
    sub.u64 %r3, %r2, %r1;
    setp.lt.u64 %p, %r3, %r0;
    @%p bra again;
    ret;
}
.visible .entry fault()
{
    .reg .u64 %a;
    mov.u64 %a, 4398046511104;
    st.global.u32 [%a], 1;
    ret;
}
\0"""
"""`spin` runs for a time; `fault` writes to an address that nothing is mapped at."""

MANY_BLOCKS = 1024
"""Enough to occupy every multiprocessor."""

ONE_KERNEL = 10_000_000
"""Nanoseconds for which one `spin` runs."""


class CudaError(Exception):
    """A call of the CUDA driver API failed."""


class Cuda:
    """The primary context of one GPU."""

    def __init__(self, gpu: int) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        device, context, self._module = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), gpu)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        self.call("cuModuleLoadData", ctypes.byref(self._module), PTX)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of the driver API."""
        if code := getattr(self._library, name)(*arguments):
            raise CudaError(f"cannot call {name}: CUDA error {code}")

    def allocate(self, mebibytes: int) -> None:
        """Allocate device memory until the program ends."""
        address = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(mebibytes << 20))

    def run(self, kernel: bytes, blocks: int, *numbers: int) -> None:
        """Run a kernel and wait for its end."""
        function = ctypes.c_void_p()
        self.call("cuModuleGetFunction", ctypes.byref(function), self._module, kernel)
        values = [ctypes.c_uint64(number) for number in numbers]
        arguments = (ctypes.c_void_p * max(len(values), 1))(
            *[ctypes.addressof(value) for value in values]
        )
        self.call("cuLaunchKernel", function, blocks, 1, 1, 32, 1, 1, 0, None, arguments, None)
        self.call("cuCtxSynchronize")


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--gpu", type=int, default=0, help="the GPU's CUDA index")
    parser.add_argument("--memory", type=int, default=64, metavar="MIB", help="memory to hold")
    parser.add_argument("--seconds", type=float, default=5, help="how long to keep the GPU busy")
    parser.add_argument("--fault", action="store_true", help="cause an Xid 31 instead")
    given = parser.parse_args()
    try:
        cuda = Cuda(given.gpu)
        if given.fault:
            cuda.run(b"fault", 1)
            return 1  # the fault did not happen
        cuda.allocate(given.memory)
        print("busy", flush=True)  # noqa: T201
        end = time.monotonic() + given.seconds
        while time.monotonic() < end:
            cuda.run(b"spin", MANY_BLOCKS, ONE_KERNEL)
    except (CudaError, OSError) as error:
        print(error, flush=True)  # noqa: T201
        return 0 if given.fault and "700" in str(error) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
