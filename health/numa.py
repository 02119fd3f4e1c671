"""The node's NUMA nodes: which one of a GPU is worth a hint, and why there are so many.

A driver of a coherent CPU, such as Grace, makes the memory of each GPU NUMA nodes of the system,
unless its module parameter says otherwise: a GB200 tray has 34 nodes, of which 2 have CPUs.
"""

import re
from pathlib import Path

from health.nvml import Nvml
from proto.facts import NumaNodes

NODES = "devices/system/node"
"""Where the kernel shows its NUMA nodes, below /sys."""

MODE = re.compile(r'^CoherentGPUMemoryMode: "?([^"\n]*)"?$', re.MULTILINE)
"""The module parameter NVreg_CoherentGPUMemoryMode in /proc/driver/nvidia/params."""


def of_device(sysfs: Path, pci: str) -> int | None:
    """Return the NUMA node of a PCI device; None if it has none, or one without CPUs.

    No container can run on a node without CPUs, and many such nodes make the kubelet's topology
    manager too slow.
    """
    if not pci:
        return None
    try:
        # Without a NUMA node, the kernel writes -1.
        node = int((sysfs / "bus/pci/devices" / pci / "numa_node").read_text())
    except (OSError, ValueError):
        return None
    return node if node >= 0 and _has_cpus(sysfs / NODES / f"node{node}") else None


def _has_cpus(node: Path) -> bool:
    """Return whether a NUMA node has CPUs; True as well where the kernel does not tell."""
    try:
        return bool((node / "cpulist").read_text().strip())
    except OSError:
        return True


def find(nvml: Nvml, sysfs: Path, procfs: Path) -> NumaNodes:
    """Count the node's NUMA nodes, in a lane: a file of the driver may hang."""
    try:
        nodes = [path for path in (sysfs / NODES).iterdir() if re.fullmatch(r"node\d+", path.name)]
    except OSError:
        nodes = []
    bare = sum(not _has_cpus(node) for node in nodes)
    return NumaNodes(len(nodes), bare, _memory_mode(nvml, procfs) if bare else "")


def _memory_mode(nvml: Nvml, procfs: Path) -> str:
    path = procfs / "driver/nvidia/params"
    try:
        with nvml.doing(f"read {path}"):
            match = MODE.search(path.read_text(errors="replace"))
    except OSError:
        return ""
    return match[1] if match else ""
