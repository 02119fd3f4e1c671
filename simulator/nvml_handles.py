"""The error codes and handles of the simulated NVML."""

import msgspec

INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, TIMEOUT, GPU_IS_LOST = 2, 3, 4, 6, 10, 15
TEXTS = {
    INVALID_ARGUMENT: "Invalid Argument",
    NOT_SUPPORTED: "Not Supported",
    NO_PERMISSION: "Insufficient Permissions",
    NOT_FOUND: "Not Found",
    TIMEOUT: "Timeout",
    GPU_IS_LOST: "GPU is lost",
}


class NVMLError(Exception):
    """The exception of the binding; `value` is the NVML error code."""

    def __init__(self, value: int) -> None:
        super().__init__(TEXTS.get(value, "Unknown Error"))
        self.value = value


class GpuHandle(msgspec.Struct, frozen=True):
    """A GPU, by UUID."""

    uuid: str


class MigHandle(msgspec.Struct, frozen=True):
    """A MIG instance, by the UUID of its GPU and its place on the GPU."""

    uuid: str
    place: int
