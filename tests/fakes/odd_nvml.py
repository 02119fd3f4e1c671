"""The simulated NVML, but for one GPU it raises errors that no binding should raise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulator.nvml import Binding

ODD = 1
"""The index of that GPU."""

CALLS = "odd"
"""The file in the node's folder with the names of the functions that raise; none: all."""


class OddBinding(Binding):
    """Raises ValueError for the GPU ODD."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._calls = folder / CALLS

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        return self._odd(name, found) if name.startswith("nvmlDevice") else found

    def _odd(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            odd = self._gpus[ODD]
            named = self._calls.read_text().split() if self._calls.exists() else []
            mine = arguments and (getattr(arguments[0], "uuid", "") == odd or arguments[0] is odd)
            if mine and (not named or name in named):
                raise ValueError(f"odd answer of {name}")
            return function(*arguments)

        return call


def load(folder: str) -> OddBinding:
    """Return a binding to the live node in *folder*."""
    return OddBinding(Path(folder))
