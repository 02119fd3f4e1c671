"""The files of the simulated sysfs and procfs that show the node's GPUs."""

import shutil
from pathlib import Path

from simulator import pci
from simulator.node import MISSING, Live, SimulatedNode, SimulatedPlatform, capabilities


def show(live: Live, sysfs: Path, procfs: Path) -> None:
    """Write what the kernel and the driver show of the node."""
    for gpu in live.gpus:
        # A guest of WSL2 sees no GPU on its PCI bus.
        if not gpu.on_pci or live.node.platform is SimulatedPlatform.WSL:
            continue
        device = sysfs / "bus/pci/devices" / gpu.pci_bus_id
        bound = sysfs / "bus/pci/drivers/nvidia" / gpu.pci_bus_id
        passed = sysfs / "bus/pci/drivers/vfio-pci" / gpu.pci_bus_id
        there = {device, passed if gpu.uuid in live.passed else bound}
        if MISSING in live.grey.get(gpu.uuid, ()):
            there = {device}
        there = set() if gpu.uuid in live.removed else there
        there -= {bound} if MISSING in live.grey.get(gpu.uuid, ()) else set()
        for folder in {device, bound, passed} - there:
            shutil.rmtree(folder, ignore_errors=True)
        for folder in there:
            folder.mkdir(parents=True, exist_ok=True)
        if not there:
            continue
        number = -1 if gpu.numa_node is None else gpu.numa_node
        _write(device / "numa_node", f"{number}\n".encode())
        _write(device / "vendor", b"0x10de\n")
        _write(device / "class", pci.pci_class(gpu).encode())
        _write(device / "config", pci.space(gpu))
    machine = sysfs / "class/dmi/id/product_name"
    machine.parent.mkdir(parents=True, exist_ok=True)
    _write(machine, f"{live.node.machine}\n".encode())
    _show_memory(live.node, sysfs, procfs)
    minors = procfs / "driver/nvidia-caps/mig-minors"
    minors.parent.mkdir(parents=True, exist_ok=True)
    text = "config 1\nmonitor 2\n" + "".join(capabilities(live.gpus))
    _write(minors, text.encode())


def _show_memory(node: SimulatedNode, sysfs: Path, procfs: Path) -> None:
    """Write the machine's memory and NUMA nodes, and the driver's parameter about them."""
    numbers = {gpu.numa_node for gpu in node.gpus if (gpu.numa_node or -1) >= 0} | {0}
    first = max(number or 0 for number in numbers) + 1
    for number in (*numbers, *range(first, first + node.memory_nodes)):
        folder = sysfs / f"devices/system/node/node{number}"
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "cpulist", b"0-7\n" if number in numbers else b"\n")
    params = procfs / "driver/nvidia/params"
    params.parent.mkdir(parents=True, exist_ok=True)
    _write(params, f'CoherentGPUMemoryMode: "{node.coherent_memory_mode}"\n'.encode())
    _write(procfs / "meminfo", f"MemTotal: {node.system_memory_mib << 10} kB\n".encode())


def _write(path: Path, data: bytes) -> None:
    """Replace a file in one step: a monitor that reads it meanwhile must not find it empty."""
    if path.exists() and path.read_bytes() == data:
        return
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)
