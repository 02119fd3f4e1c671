"""What answers in place of NVML on a Tegra without it: one GPU, of which nothing else is known."""

from health.nvml import Code
from health.platform import WITHOUT_NVML


class NoNvmlError(Exception):
    """A function answered with an error code of NVML."""

    def __init__(self, value: int) -> None:
        super().__init__("Not Supported" if value == Code.NOT_SUPPORTED else f"error {value}")
        self.value = value


class TegraBinding:
    """Has the functions of nvidia-ml-py that a GPU cannot be enumerated without.

    Whoever calls another one learns that this driver does not have the function.
    """

    NVMLError = NoNvmlError

    def nvmlInit(self) -> None:
        """Succeed."""

    def nvmlDeviceGetCount(self) -> int:
        """Return 1: all these systems on chip have one GPU."""
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        """Return the handle of the GPU."""
        if index:
            raise NoNvmlError(Code.INVALID_ARGUMENT)
        return WITHOUT_NVML

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        """Return a name in place of a UUID."""
        return handle

    def nvmlDeviceGetName(self, handle: str) -> str:
        """Return the model as far as it is known."""
        return handle
