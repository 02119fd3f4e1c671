"""The children of a service, by the names in their titles."""

import contextlib
import select
import time
from pathlib import Path

from tests.conftest import children


class Pids(dict[str, int]):
    """The pids of children by name, as they were; `pids[name]` waits for a child that starts.

    A child has its name some milliseconds after its start, or seconds on a busy machine.
    """

    def __init__(self, parent: int, without: str, patience: float) -> None:
        super().__init__(named_children(parent))
        self.pop(without, None)
        self._parent = parent
        self._patience = patience

    def __missing__(self, name: str) -> int:
        deadline = time.monotonic() + self._patience
        while name not in (found := named_children(self._parent)):
            assert time.monotonic() < deadline, f"no {name}, only {sorted(found)}"
            select.select([], [], [], 0.01)  # nothing tells of a new title
        return found[name]


def named_children(parent: int) -> dict[str, int]:
    """Return the pids of a service's children by name."""
    found = {}
    for child in children(parent):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{child}/cmdline").read_text().rstrip("\0 ")
            found[line.removeprefix("gpu-sharing-plugin: ")] = child
    return found
