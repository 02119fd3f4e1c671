"""The error codes and handles of the simulated NVML."""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class GpuHandle:
    """A GPU, by UUID."""

    uuid: str


@dataclass(frozen=True, slots=True)
class MigHandle:
    """A MIG instance, by the UUID of its GPU and its place on the GPU."""

    uuid: str
    place: int
