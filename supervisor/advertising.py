"""Tell from the plan how devices are advertised, as far as the node's labels need it."""

from collections import defaultdict

from proto.advertising import Advertised, Advertising, SharingStrategy
from proto.messages import Inventory
from proto.worker import PlannedDevice
from supervisor.plan import Plan, Rules, name_of_gpu, name_of_instance


def advertising(rules: Rules, inventory: Inventory, plan: Plan) -> Advertising:
    """Return how the devices of *inventory* are advertised by *plan*, which *rules* made."""
    before = _names(rules, inventory)
    alike: dict[tuple[str, int, SharingStrategy, bool], list[str]] = defaultdict(list)
    for resource in plan.resources:
        for device in resource.devices:
            renamed = before.get(device.uuid) != resource.resource
            key = (resource.resource, device.replicas, _strategy(device), renamed)
            alike[key].append(device.uuid)
    resources = (
        Advertised(resource, tuple(devices), replicas, strategy, renamed)
        for (resource, replicas, strategy, renamed), devices in alike.items()
    )
    return Advertising(rules.mig, tuple(resources))


def _strategy(device: PlannedDevice) -> SharingStrategy:
    if device.replicas == 1:
        return SharingStrategy.NONE
    return SharingStrategy.TIME_SLICING if device.mps is None else SharingStrategy.MPS


def _names(rules: Rules, inventory: Inventory) -> dict[str, str]:
    """Return the resource of each device before sharing, by UUID."""
    found = {gpu.uuid: name_of_gpu(rules, gpu) for gpu in inventory.gpus}
    return found | {
        mig.uuid: name_of_instance(rules, mig) for gpu in inventory.gpus for mig in gpu.instances
    }
