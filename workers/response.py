"""The kubelet's messages, made from a view and a request, and from nothing else."""

from collections.abc import Iterable

from proto import deviceplugin_pb2 as api
from proto.messages import Health
from workers.devices import View


class RefusedError(Exception):
    """A request that must not be granted; the kubelet rejects the pod with this text."""


def device_list(view: View) -> api.ListAndWatchResponse:
    """Return the list of all devices."""
    return api.ListAndWatchResponse(
        devices=(
            api.Device(
                ID=replica.id,
                health=Health.UNHEALTHY if replica.uuid in view.unhealthy else Health.HEALTHY,
                topology=_topology(replica.numa_node),
            )
            for replica in view.replicas.values()
        )
    )


def _topology(numa_node: int | None) -> api.TopologyInfo | None:
    # Not {}: a kubelet reads an empty node as NUMA node 0.
    return None if numa_node is None else api.TopologyInfo(nodes=[api.NUMANode(ID=numa_node)])


def allocate(view: View, ids: Iterable[str]) -> api.ContainerAllocateResponse:
    """Return what a container needs to see its devices; RefusedError where it must not get one."""
    uuids = dict.fromkeys(_usable(view, name) for name in ids)  # in order, each once
    return api.ContainerAllocateResponse(envs={"NVIDIA_VISIBLE_DEVICES": ",".join(uuids)})


def _usable(view: View, name: str) -> str:
    replica = view.replicas.get(name)
    if replica is None:
        raise RefusedError(f'cannot allocate "{name}": {view.resource} has no such device')
    if reasons := view.unhealthy.get(replica.uuid):
        why = ", ".join(map(str, reasons))
        raise RefusedError(f'cannot allocate "{name}" of {view.resource}: unhealthy ({why})')
    return replica.uuid
