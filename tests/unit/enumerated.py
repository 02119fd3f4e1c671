"""The inventory of a node, found by the jobs of the lanes one after the other."""

from msgspec.structs import replace

from health import device_nodes, driver_facts, enumeration, inventory, label_facts
from health.enumeration import Enumerated, SystemRoots
from health.inventory import Slot
from health.nvml import Nvml
from proto.messages import Inventory


def take(nvml: Nvml, roots: SystemRoots) -> Inventory:
    """Return the inventory of an initialised driver."""
    slots, handles, peers = [], {}, {}
    for index in range(nvml.gpu_count()):
        found = enumeration.enumerate_gpu(nvml, index, roots)
        if isinstance(found, Enumerated):
            details = enumeration.find_details(nvml, found.handle)
            facts = label_facts.find_facts(nvml, found.handle, found.gpu, roots.sysfs)
            slots.append(Slot(index, gpu=replace(found.gpu, ecc=details.ecc, facts=facts)))
            handles[found.gpu.uuid], peers[found.gpu.uuid] = found.handle, details.peers
        else:
            slots.append(Slot(index, failed=found.failed))
    levels = enumeration.find_levels(nvml, handles).levels
    gpus = inventory.with_absent(slots, (), frozenset())
    return Inventory(
        driver_version=nvml.driver_version(),
        gpus=gpus,
        failed=tuple(inventory.failures(slots, gpus, {})),
        nodes=device_nodes.existing(device_nodes.root_of(roots.dev)),
        links=tuple(inventory.links(gpus, peers, levels)),
        cuda_version=driver_facts.find_driver_facts(nvml).cuda,
    )
