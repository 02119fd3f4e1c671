"""What the monitor finds in the files of the node, in a lane of its own: a mount may be dead."""

import functools
from collections.abc import Iterable

import msgspec

from health import device_nodes, numa
from health.enumeration import SystemRoots
from health.lane import Lane, Mailbox
from health.nvml import Nvml
from proto.facts import NumaNodes


class NodeFiles(msgspec.Struct, frozen=True):
    """What the files show."""

    nodes: tuple[str, ...]
    """The control device nodes and those of IMEX channels."""
    channels: tuple[int, ...]
    """The IMEX channels that have a node."""
    numa: NumaNodes


UNKNOWN = NodeFiles(device_nodes.NEEDED, (), NumaNodes())
"""While the files do not answer.

A container does not start where one of these is missing; without them it would start, and not work.
"""


class FilesLane:
    """A lane that looks for the files, and what it has found."""

    def __init__(self, roots: SystemRoots, channels: Iterable[int], mailbox: Mailbox) -> None:
        """Begin to look, also for the device nodes of the IMEX *channels*."""
        self.lane = Lane("files", Nvml(), mailbox)
        self.found: NodeFiles | None = None
        """None: nobody has seen the files yet."""
        self._job = functools.partial(find, roots=roots, channels=tuple(channels))
        self._due = True
        self.step()

    @property
    def settled(self) -> bool:
        """Whether nothing is looked for now, or is to be."""
        return not (self._due or self.lane.busy)

    @property
    def channels(self) -> tuple[int, ...] | None:
        """The IMEX channels that have a node; None: not known yet."""
        return self.found.channels if self.found else None

    def again(self) -> None:
        """Look again soon."""
        self._due = True

    def step(self) -> None:
        """Look if it is time and the lane is idle."""
        if self._due and not self.lane.busy:
            self._due = False
            self.lane.give(self._job, lambda _: self.found or UNKNOWN)


def find(nvml: Nvml, roots: SystemRoots, channels: Iterable[int]) -> NodeFiles:
    """Look for the device nodes, those of the IMEX *channels* among them, and for NUMA nodes."""
    channels = tuple(channels)
    with nvml.doing("look for device nodes"):
        dev = device_nodes.root_of(roots.dev)
        nodes = device_nodes.existing(dev, channels)
        there = device_nodes.existing_channels(dev, channels)
    return NodeFiles(nodes, there, numa.find(nvml, roots.sysfs, roots.procfs))
