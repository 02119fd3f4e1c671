"""NUMA nodes as the kernel shows them, in a temporary sysfs and procfs."""

from pathlib import Path

import pytest

from health import numa, unified_memory
from health.nvml import Nvml
from proto.facts import NumaNodes

PCI = "0008:01:00.0"


def node_of(sysfs: Path, number: int, cpus: str | None) -> None:
    """Make a NUMA node with these CPUs; None: the kernel does not tell them."""
    folder = sysfs / numa.NODES / f"node{number}"
    folder.mkdir(parents=True)
    if cpus is not None:
        (folder / "cpulist").write_text(cpus)


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [("0-71\n", 1), ("\n", None), ("", None), (None, 1)],
    ids=["CPUs", "only a line break", "empty", "not told"],
)
def test_the_node_of_a_device(tmp_path: Path, cpus: str | None, expected: int | None) -> None:
    """A NUMA node without CPUs is no hint; where the kernel tells no CPUs, it is one."""
    node_of(tmp_path, 0, "0-71\n")
    node_of(tmp_path, 1, cpus)
    device = tmp_path / "bus/pci/devices" / PCI
    device.mkdir(parents=True)
    (device / "numa_node").write_text("1\n")
    assert numa.of_device(tmp_path, PCI) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [("0\n", 0), ("1\n", 1), ("-1\n", None), ("", None), ("none\n", None), (None, None)],
    ids=["node 0", "node 1", "none", "empty", "no number", "no file"],
)
def test_numa_node(tmp_path: Path, content: str | None, expected: int | None) -> None:
    """A NUMA node of -1, or a file that is bad or missing, means no NUMA node."""
    device = tmp_path / "bus/pci/devices" / PCI
    if content is not None:
        device.mkdir(parents=True)
        (device / "numa_node").write_text(content)
    assert numa.of_device(tmp_path, PCI) == expected


def test_the_nodes_of_a_gb200(tmp_path: Path) -> None:
    """34 nodes are counted, 32 of them without CPUs, with the driver's parameter."""
    sysfs, params = tmp_path / "sys", tmp_path / "proc/driver/nvidia/params"
    for number in range(34):
        node_of(sysfs, number, f"{number * 72}-{number * 72 + 71}\n" if number < 2 else "\n")
    (sysfs / numa.NODES / "possible").write_text("0-33\n")
    params.parent.mkdir(parents=True)
    params.write_text('EnableMSI: 1\nCoherentGPUMemoryMode: ""\nCreateImexChannel0: 0\n')
    assert numa.find(Nvml(), sysfs, tmp_path / "proc") == NumaNodes(34, 32)
    params.write_text('EnableMSI: 1\nCoherentGPUMemoryMode: "driver"\n')
    assert numa.find(Nvml(), sysfs, tmp_path / "proc") == NumaNodes(34, 32, "driver")
    params.unlink()
    assert numa.find(Nvml(), sysfs, tmp_path / "proc") == NumaNodes(34, 32)


def test_a_kernel_without_numa(tmp_path: Path) -> None:
    """Without NUMA nodes in sysfs, nothing is known."""
    assert numa.find(Nvml(), tmp_path, tmp_path) == NumaNodes()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MemTotal:       125829120 kB\nMemFree:        1 kB\n", 122880),
        ("MemTotal:       1023 kB\n", None),
        ("MemFree:        1 kB\n", None),
        ("", None),
        (None, None),
    ],
    ids=["120 GiB", "less than 1 MiB", "no total", "empty", "no file"],
)
def test_the_memory_of_the_machine(tmp_path: Path, text: str | None, expected: int | None) -> None:
    """It is the total of meminfo in MiB."""
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    assert unified_memory.mib_of_machine(tmp_path) == expected
