"""The device nodes that a container needs beside those of its GPUs."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from proto.messages import IMEX_CHANNEL

CONTROL = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")
NEEDED = CONTROL[:2]
"""What every program needs that uses CUDA."""

ACCESS = re.compile(r"gpu(\d{1,9})/gi(\d{1,9})(?:/ci(\d{1,9}))?/access (\d{1,9})", re.ASCII)
"""A line of mig-minors: the capability that gives access to a GI, or to a CI in it."""

Capabilities = dict[tuple[int, int, int | None], int]
"""Capability numbers by GPU minor number, GI, and CI (None: the GI itself)."""


def root_of(roots: Sequence[Path]) -> Path:
    """Return the first of *roots* that contains dev/; the last one if none does.

    As all that looks below a root, only for a lane or a process of its own: a mount may be dead.
    """
    # Not Path.is_dir, which raises OSError for a folder that may not be read.
    return next((root for root in roots[:-1] if os.path.isdir(root / "dev")), roots[-1])  # noqa: PTH112


def came_late(roots: Sequence[Path], here: Path = Path("/")) -> bool:
    """Return whether the node has the driver's device node below *roots*, and *here* has not.

    A container keeps the /dev that it was created with.
    """
    return is_there(root_of(roots), CONTROL[0]) and not is_there(here, CONTROL[0])


def existing(dev_root: Path, channels: Iterable[int] = ()) -> tuple[str, ...]:
    """Return the control nodes and the nodes of IMEX *channels* that exist below *dev_root*."""
    control = (node for node in CONTROL if is_there(dev_root, node))
    return *control, *map(IMEX_CHANNEL.format, existing_channels(dev_root, channels))


def existing_channels(dev_root: Path, channels: Iterable[int]) -> tuple[int, ...]:
    """Return those of the IMEX *channels* that have a node below *dev_root*."""
    return tuple(n for n in channels if is_there(dev_root, IMEX_CHANNEL.format(n)))


def is_there(dev_root: Path, node: str) -> bool:
    """Return whether the device *node* exists below *dev_root*."""
    # Not Path.exists, which raises OSError below a folder that cannot be read.
    return os.path.exists(dev_root / node.lstrip("/"))  # noqa: PTH110


def capabilities(procfs: Path) -> Capabilities:
    """Return the MIG capabilities from the driver's mig-minors file; empty without the file."""
    try:
        text = (procfs / "driver/nvidia-caps/mig-minors").read_text(errors="replace")
    except OSError:
        return {}
    found: Capabilities = {}
    for line in text.splitlines():
        if match := ACCESS.fullmatch(line.strip()):
            gpu, gi, ci, number = match.groups()
            found[int(gpu), int(gi), None if ci is None else int(ci)] = int(number)
    return found
