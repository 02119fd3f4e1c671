"""The facts of each GPU, for rules of Node Feature Discovery: no label could hold a UUID's list."""

from proto.messages import Gpu, Inventory
from proto.names import is_display


def gpu_instances(inventory: Inventory) -> tuple[dict[str, str], ...]:
    """Return the attributes of each GPU by index; what is not known is left out.

    Keys: uuid, index, model, memory (MiB), pci (as the kernel writes it), numa.
    """
    gpus = (gpu for gpu in inventory.gpus if not is_display(gpu))
    return tuple(_attributes(gpu) for gpu in sorted(gpus, key=lambda gpu: (gpu.index, gpu.uuid)))


def _attributes(gpu: Gpu) -> dict[str, str]:
    found = {
        "uuid": gpu.uuid,
        "index": str(gpu.index),
        "model": gpu.name,
        "memory": str(gpu.memory_mib) if gpu.memory_mib else "",
        "pci": gpu.pci_bus_id,
        "numa": "" if gpu.numa_node is None else str(gpu.numa_node),
    }
    return {key: text for key, text in found.items() if text}
