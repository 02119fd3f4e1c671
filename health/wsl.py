"""All GPUs of a PC as the one device that WSL2 can pass to a container.

The container toolkit knows one device there, `all`. So GPUs that cannot be told apart by a
container are one GPU here too, which is Healthy while each of them answers.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from health.nvml import Code
from proto.names import ALL


class AllGpus:
    """The handle of the device: those of its GPUs."""

    def __init__(self, handles: tuple[Any, ...]) -> None:
        self.handles = handles


class WslBinding:
    """Shows the GPUs of another binding as one.

    If there is a single GPU, it answers for itself, but for its UUID and for the device node that
    it has not. Of several, only what is true of all together is told.
    """

    def __init__(self, binding: Any) -> None:
        self._binding = binding
        self.NVMLError = binding.NVMLError

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._binding, name)  # AttributeError: the driver does not have it

        def call(*arguments: Any) -> Any:
            if arguments and isinstance(arguments[0], AllGpus):
                return self._ask(name, function, arguments[0].handles, arguments[1:])
            return function(*arguments)

        return call

    def nvmlDeviceGetCount(self) -> int:
        """Return 1, or 0 without a GPU."""
        return min(1, int(self._binding.nvmlDeviceGetCount()))

    def nvmlDeviceGetHandleByIndex(self, index: int) -> AllGpus:
        """Return the handle of the device."""
        del index  # 0, as there is one device
        count = int(self._binding.nvmlDeviceGetCount())
        return AllGpus(tuple(map(self._binding.nvmlDeviceGetHandleByIndex, range(count))))

    def nvmlDeviceGetUUID(self, handle: AllGpus) -> str:
        """Return the name of the device for the container toolkit."""
        del handle
        return ALL

    def nvmlDeviceGetMinorNumber(self, handle: AllGpus) -> int:
        """Fail: the only device node is /dev/dxg."""
        del handle
        raise self.NVMLError(Code.NOT_SUPPORTED)

    def _ask(
        self, name: str, function: Any, handles: tuple[Any, ...], rest: tuple[Any, ...]
    ) -> Any:
        if len(handles) == 1:
            return function(handles[0], *rest)
        if name not in TOGETHER:
            raise self.NVMLError(Code.NOT_SUPPORTED)
        return TOGETHER[name]([function(handle, *rest) for handle in handles])


def _memory(answers: list[Any]) -> SimpleNamespace:
    names = ("total", "free", "used", "reserved")
    told = (name for name in names if all(hasattr(answer, name) for answer in answers))
    return SimpleNamespace(**{n: sum(int(getattr(a, n)) for a in answers) for n in told})


TOGETHER: dict[str, Callable[[list[Any]], Any]] = {
    "nvmlDeviceGetName": lambda names: " and ".join(dict.fromkeys(names)),
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetCudaComputeCapability": min,
}
"""What several GPUs are together: the weakest, with the memory of all."""
