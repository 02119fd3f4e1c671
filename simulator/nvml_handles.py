"""What the simulated NVML deals in: its error codes and its handles."""

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
    """What the binding raises; `value` is the code."""

    def __init__(self, value: int) -> None:
        super().__init__(TEXTS[value])
        self.value = value


@dataclass(frozen=True, slots=True)
class GpuHandle:
    """A GPU, by UUID."""

    uuid: str


@dataclass(frozen=True, slots=True)
class MigHandle:
    """A MIG instance, by its place on its GPU."""

    uuid: str
    place: int
