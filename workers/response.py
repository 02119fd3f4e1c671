"""The kubelet's messages, made from a view and a request, and from nothing else."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from proto import deviceplugin_pb2 as api
from proto.messages import IMEX_CHANNEL, Health
from proto.worker import AllocationPolicy, DeviceIdStrategy, DeviceListStrategy, Handout
from workers.allocation import doubled
from workers.devices import Replica, View

MOUNT_ROOT = "/var/run/nvidia-container-devices"
"""Where the container runtime looks for mounts that name devices; no image can set these itself."""

CDI = {DeviceListStrategy.CDI_ANNOTATIONS, DeviceListStrategy.CDI_CRI}


SHOWN = 100
"""Characters of an unknown id in an error, which gRPC carries in a header of limited size."""


class RefusedError(Exception):
    """A request that must not be granted; the kubelet rejects the pod with this text."""


def device_list(replicas: Iterable[Replica], health: Health) -> api.ListAndWatchResponse:
    """Return the list of *replicas* that are all of the same *health*."""
    return api.ListAndWatchResponse(
        devices=(
            api.Device(ID=replica.id, health=health, topology=_topology(replica.numa_node))
            for replica in replicas
        )
    )


def _topology(numa_node: int | None) -> api.TopologyInfo | None:
    # Not {}: a kubelet reads an empty node as NUMA node 0.
    return None if numa_node is None else api.TopologyInfo(nodes=[api.NUMANode(ID=numa_node)])


def allocate(view: View, handout: Handout, ids: Sequence[str]) -> api.ContainerAllocateResponse:
    """Return what a container needs to see its devices; RefusedError where it must not get one."""
    replicas = [_usable(view, name) for name in ids]
    _require_allowed(view, handout, replicas)
    by_index = handout.id_strategy is DeviceIdStrategy.INDEX
    # In order, and each once however many of its replicas were asked for.
    names = tuple(dict.fromkeys(r.index if by_index else r.uuid for r in replicas))
    channels = [n for n in handout.imex_channels if IMEX_CHANNEL.format(n) in view.nodes]
    response = api.ContainerAllocateResponse()
    for feature in handout.features:
        response.envs[f"NVIDIA_{feature.upper()}"] = "enabled"
    if CDI & set(handout.list_strategies):
        _name_by_cdi(response, view, handout, names, channels)
    if set(handout.list_strategies) <= CDI:
        return response
    _name_to_runtime(response, handout, names, channels)
    if handout.pass_device_specs:
        control = (node for node in view.nodes if "imex" not in node)
        nodes = (*control, *(n for r in replicas for n in r.nodes))
        nodes += tuple(map(IMEX_CHANNEL.format, channels))
        response.devices.extend(_device_specs(handout.dev_root, nodes))
    return response


def _usable(view: View, name: str) -> Replica:
    replica = view.replicas.get(name)
    if replica is None:
        shown = name if len(name) <= SHOWN else f"{name[:SHOWN]}..."
        raise RefusedError(f'cannot allocate "{shown}": {view.resource} has no such device')
    if reasons := view.unhealthy.get(replica.uuid):
        why = ", ".join(map(str, reasons))
        raise RefusedError(f'cannot allocate "{name}" of {view.resource}: unhealthy ({why})')
    return replica


def _require_allowed(view: View, handout: Handout, replicas: Sequence[Replica]) -> None:
    shared = any(replica.id != replica.uuid for replica in replicas)
    if handout.single_replica and shared and len(replicas) > 1:
        raise RefusedError(
            f"cannot allocate {len(replicas)} of {view.resource}: it is shared, and "
            "failRequestsGreaterThanOne allows a container only one"
        )
    twice = doubled(view.replicas, [replica.id for replica in replicas])
    if twice and handout.policy is AllocationPolicy.SPREAD:
        raise RefusedError(
            f"cannot allocate {len(replicas)} of {view.resource}: several would be on "
            f"{', '.join(twice)}, which the policy spread forbids; ask for fewer"
        )


def _extras(view: View, handout: Handout, channels: Iterable[int]) -> list[str]:
    """Return the CDI names beside the devices'; what the node lacks has none that resolves."""
    vendor = handout.cdi_kind.partition("/")[0]
    names = [(f"{vendor}/imex-channel", str(channel)) for channel in channels]
    names += [(f"{vendor}/{feature}", "all") for feature in handout.features]
    known = view.cdi_kinds
    return [f"{kind}={name}" for kind, name in names if not known or kind in known]


def _name_by_cdi(
    response: api.ContainerAllocateResponse,
    view: View,
    handout: Handout,
    names: Iterable[str],
    channels: Iterable[int],
) -> None:
    qualified = [f"{handout.cdi_kind}={name}" for name in names]
    qualified += _extras(view, handout, channels)
    if DeviceListStrategy.CDI_ANNOTATIONS in handout.list_strategies:
        # The key has to differ between containers that get different devices, and not otherwise.
        digest = hashlib.sha256(",".join(qualified).encode()).hexdigest()[:32]
        key = f"{handout.cdi_annotation_prefix}nvidia-device-plugin_{digest}"
        response.annotations[key] = ",".join(qualified)
    if DeviceListStrategy.CDI_CRI in handout.list_strategies:
        response.cdi_devices.extend(api.CDIDevice(name=name) for name in qualified)


def _name_to_runtime(
    response: api.ContainerAllocateResponse,
    handout: Handout,
    names: Sequence[str],
    channels: Sequence[int],
) -> None:
    """Name the devices to NVIDIA's container runtime: in the environment, by mounts, or both."""
    strategies = handout.list_strategies
    if DeviceListStrategy.VOLUME_MOUNTS in strategies:
        # Alone it points at the mounts; beside a list of devices it must not take its place.
        response.envs["NVIDIA_VISIBLE_DEVICES"] = MOUNT_ROOT
        paths = [*names, *(f"imex/{channel}" for channel in channels)]
        for path in paths:
            response.mounts.add(host_path="/dev/null", container_path=f"{MOUNT_ROOT}/{path}")
    if DeviceListStrategy.ENVVAR in strategies:
        response.envs["NVIDIA_VISIBLE_DEVICES"] = ",".join(names)
        if channels:
            response.envs["NVIDIA_IMEX_CHANNELS"] = ",".join(map(str, channels))


def _device_specs(dev_root: str, nodes: Iterable[str]) -> Iterator[api.DeviceSpec]:
    root = dev_root.rstrip("/")
    for node in dict.fromkeys(nodes):  # two instances of one GPU share its node
        yield api.DeviceSpec(container_path=node, host_path=f"{root}{node}", permissions="rw")
